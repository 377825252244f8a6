"""A policy file, whatever is in it, gives policies or a `PolicyError`, and soon."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jobtastic_ext.errors import PolicyError
from jobtastic_ext.policy.fields import FIELDS
from jobtastic_ext.policy.loader import PolicySet, load_policy
from tests.thorough import examples

EXAMPLE = (Path(__file__).parents[2] / "config_examples" / "annotated.yaml").read_text("utf-8")

#: Seconds of this process' own time.  What is made here takes some milliseconds.
LIMIT = 1.0

FUZZ = settings(
    max_examples=examples(100),
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

NUMBERS = (10**400, -(10**400), 1e308, -1e308)
TEXTS = ("1e999", "-1e999", ".inf", "-.inf", ".nan", "190:20:30", "1_000_000s")
LONG_TEXTS = ("9" * 5_000, "1" * 400 + "d", "0x" + "f" * 3_000, "0b1" + "0" * 2_000)
HUGE = st.sampled_from([*NUMBERS, *TEXTS, *LONG_TEXTS])

FIELD = st.sampled_from([*FIELDS, "cache_durations", "", "significant_kwargs"])

ODD = st.recursive(
    HUGE | st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda below: st.lists(below, max_size=3) | st.dictionaries(FIELD, below, max_size=3),
    max_leaves=12,
)

SECTION = st.dictionaries(FIELD, ODD, max_size=6)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "jobtastic.yaml"


def read(source: Any) -> PolicySet | PolicyError:
    began = time.process_time()
    try:
        found: PolicySet | PolicyError = load_policy(source)
    except PolicyError as error:
        found = error
    assert time.process_time() - began < LIMIT
    if isinstance(found, PolicyError):
        assert found.problems
        assert str(found).encode(), "it cannot be printed"
    return found


@FUZZ
@given(tasks=st.dictionaries(st.text(max_size=12), SECTION, max_size=4), defaults=SECTION)
def test_wrong_types_and_huge_numbers(path: Path, tasks: Any, defaults: Any) -> None:
    tree = {"defaults": defaults, "tasks": tasks}
    read(tree)
    path.write_bytes(yaml.safe_dump(tree, allow_unicode=True).encode("utf-8", "replace"))
    read(path)


@FUZZ
@given(
    opened=st.lists(st.sampled_from(["[", "{a: ", "- ", "? ", "&a [", "!x [", "\n  "]), max_size=4),
    depth=st.integers(1, 2_000),
    below=st.sampled_from(["tasks: ", "tasks: {a: ", "defaults: ", "tasks: {a: {cache_duration: "]),
)
def test_deep_nesting(path: Path, opened: list[str], depth: int, below: str) -> None:
    path.write_text(below + "".join(opened) * depth)
    assert isinstance(read(path), PolicyError)


@FUZZ
@given(
    edits=st.lists(
        st.tuples(st.integers(0, len(EXAMPLE) - 1), st.integers(0, 30), st.binary(max_size=12)),
        min_size=1,
        max_size=4,
    )
)
def test_a_good_file_that_was_damaged(path: Path, edits: list[tuple[int, int, bytes]]) -> None:
    raw = EXAMPLE.encode()
    for place, length, new in edits:
        raw = raw[:place] + new + raw[place + length :]
    path.write_bytes(raw)
    read(path)


def test_the_good_file_is_good(path: Path) -> None:
    path.write_text(EXAMPLE, "utf-8")
    assert isinstance(read(path), PolicySet)
