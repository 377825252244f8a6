"""The policy file: what it means, and that every mistake is told at once and in its place."""

from __future__ import annotations

import math
import re
import sys
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jobtastic_ext.errors import PolicyError, Problem
from jobtastic_ext.policy import converters, document, fields, problems
from jobtastic_ext.policy.fields import FIELDS, policy_schema
from jobtastic_ext.policy.loader import PolicySet, load_policy
from jobtastic_ext.policy.model import Significant, TaskPolicy
from jobtastic_ext.policy.written import in_force
from tests.thorough import CI, examples

ROOT = Path(__file__).parent.parent
A_DURATION = "a duration: seconds, or such as `90s`, `5m`, `1h`, `7d`, `forever`"
LOADERS: list[Any] = [yaml.SafeLoader]
if hasattr(yaml, "CSafeLoader"):
    LOADERS.append(yaml.CSafeLoader)

Load = Callable[[str | bytes], PolicySet]


@pytest.fixture(params=LOADERS, ids=lambda loader: loader.__name__)
def _each_scanner(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(document, "LOADER", request.param)


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, _each_scanner: None) -> Iterator[Load]:
    """Load text as `p.yaml` from the working directory, with each scanner of PyYAML."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)

    def load_text(text: str | bytes) -> PolicySet:
        Path("p.yaml").write_bytes(text.encode() if isinstance(text, str) else text)
        return load_policy("p.yaml")

    yield load_text
    for name in set(sys.modules) - before:
        if name.startswith("own_"):
            del sys.modules[name]


def mistakes(load: Callable[[Any], PolicySet], source: Any) -> list[str]:
    with pytest.raises(PolicyError) as caught:
        load(source)
    return [str(problem) for problem in caught.value.problems]


def one_task(fields: str) -> str:
    return f"tasks:\n  a:\n    {fields}\n"


def field_of(load: Load, field: str, written: str) -> Any:
    policy = load(one_task(f"{field}: {written}")).for_task("a")
    return getattr(policy, field)


# What a valid file means


def test_a_task_without_fields_has_every_default(load: Load) -> None:
    assert load("tasks:\n  a:\n").for_task("a") == TaskPolicy(
        pattern="a",
        significant_kwargs=None,
        herd_avoidance_timeout=60.0,
        cache_duration=None,
        cache_prefix=None,
        memleak_threshold=None,
        memleak_trend=True,
        memleak_trace=0,
        memleak_action="log",
        on_broker_error="raise",
        on_store_error="run",
        on_duplicate="join",
        stale_while_revalidate=0.0,
        failure_cache_duration=None,
        shadow=False,
    )


def test_every_field_is_read(load: Load) -> None:
    policies = load(
        """
tasks:
  reports.divide:
    significant_kwargs: [numerators, [denominators, repr]]
    herd_avoidance_timeout: 2m
    cache_duration: 1h
    cache_prefix: division
    memleak_threshold: 50
    memleak_trend: off
    memleak_trace: 5
    memleak_action: recycle
    on_broker_error: fail
    on_store_error: raise
    on_duplicate: raise
    stale_while_revalidate: 10
    failure_cache_duration: 0.5
    shadow: yes
"""
    )
    assert policies.for_task("reports.divide") == TaskPolicy(
        pattern="reports.divide",
        significant_kwargs=(Significant("numerators"), Significant("denominators", "repr", repr)),
        herd_avoidance_timeout=120.0,
        cache_duration=3600.0,
        cache_prefix="division",
        memleak_threshold=50.0,
        memleak_trend=False,
        memleak_trace=5,
        memleak_action="recycle",
        on_broker_error="fail",
        on_store_error="raise",
        on_duplicate="raise",
        stale_while_revalidate=10.0,
        failure_cache_duration=0.5,
        shadow=True,
    )
    assert policies.source == "p.yaml"


def test_policies_are_frozen() -> None:
    policy = TaskPolicy(pattern="a")
    with pytest.raises(AttributeError):
        policy.shadow = True  # type: ignore[misc]


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("0", 0.0),
        ("60", 60.0),
        ("0.25", 0.25),
        ("1_000_000_000", 1e9),
        ("90s", 90.0),
        ("5m", 300.0),
        ("1h", 3600.0),
        ("7d", 604800.0),
        ("500ms", 0.5),
        ("1.5h", 5400.0),
        ("'1h'", 3600.0),
        ("36525d", 100 * 365.25 * 86400),
        ("forever", math.inf),
    ],
)
def test_durations_become_seconds(load: Load, written: str, seconds: float) -> None:
    found = field_of(load, "herd_avoidance_timeout", written)
    assert found == seconds
    assert isinstance(found, float)


@pytest.mark.parametrize(
    ("field", "written", "meaning"),
    [
        ("cache_duration", "-1", None),
        ("cache_duration", "0", math.inf),
        ("cache_duration", "0s", math.inf),
        ("cache_duration", "forever", math.inf),
        ("failure_cache_duration", "-1", None),
        ("failure_cache_duration", "forever", math.inf),
        ("memleak_threshold", "-1", None),
        ("memleak_threshold", "0", 0.0),
        ("memleak_threshold", "0.5", 0.5),
        ("memleak_trend", "on", True),
        ("memleak_trend", "off", False),
        ("memleak_trace", "0", 0),
        ("memleak_action", "log", "log"),
        ("significant_kwargs", "[]", ()),
        ("shadow", "false", False),
    ],
)
def test_the_special_values(load: Load, field: str, written: str, meaning: object) -> None:
    assert field_of(load, field, written) == meaning


def test_defaults_hold_for_every_task_that_does_not_say_otherwise(load: Load) -> None:
    policies = load(
        "defaults:\n  cache_duration: 5m\n  shadow: true\n"
        "tasks:\n  a:\n    cache_duration: -1\n  b:\n"
    )
    a, b = policies.for_task("a"), policies.for_task("b")
    assert a is not None
    assert b is not None
    assert (a.cache_duration, a.shadow) == (None, True)
    assert (b.cache_duration, b.shadow) == (300.0, True)


def test_a_policy_may_name_no_task(load: Load) -> None:
    policies = load("tasks: {}\n")
    assert policies.for_task("a") is None
    assert dict(policies.patterns) == {}


def test_anchors_and_aliases_are_understood(load: Load) -> None:
    policies = load("tasks:\n  a: &hour\n    cache_duration: 1h\n  b: *hour\n")
    policy = policies.for_task("b")
    assert policy is not None
    assert policy.cache_duration == 3600


def test_a_byte_order_mark_is_no_text(load: Load) -> None:
    assert load(b"\xef\xbb\xbftasks: {a: }\n").for_task("a")


# Which policy a task has


@pytest.mark.parametrize(
    ("name", "pattern"),
    [
        ("reports.divide", "reports.divide"),
        ("reports.add", "reports.*"),
        ("reports.daily.sum", "reports.daily.*"),
        ("reports.x1", "reports.[xy]?"),
        ("Reports.add", None),
        ("other", None),
    ],
)
def test_exact_wins_over_glob_and_longer_over_shorter(
    load: Load, name: str, pattern: str | None
) -> None:
    policies = load(
        "tasks:\n  reports.*: \n  reports.divide:\n  'reports.[xy]?':\n  reports.daily.*:\n"
    )
    for _ in range(2):
        policy = policies.for_task(name)
        assert (policy.pattern if policy else None) == pattern


@pytest.mark.parametrize("patterns", [("a*", "?b"), ("?b", "a*")])
def test_of_globs_of_one_length_the_first_in_the_file_wins(
    load: Load, patterns: tuple[str, str]
) -> None:
    policy = load("tasks:\n" + "".join(f"  '{p}':\n" for p in patterns)).for_task("ab")
    assert policy is not None
    assert policy.pattern == patterns[0]


def test_a_prefix_belongs_to_a_task_and_not_to_a_glob(load: Load) -> None:
    with pytest.raises(PolicyError, match=r"2:15: `cache_prefix` under the glob `reports\.\*`"):
        load("tasks:\n  reports.*: {cache_prefix: both}")


def test_an_exact_name_may_look_like_a_glob(load: Load) -> None:
    policy = load("tasks:\n  'a[1]':\n  'a*************':\n").for_task("a[1]")
    assert policy is not None
    assert policy.pattern == "a[1]"


def test_a_glob_of_many_stars_is_quick(load: Load) -> None:
    policies = load(f"tasks:\n  '{'a*' * 40}b':\n")
    began = time.perf_counter()
    assert policies.for_task("a" * 200) is None
    assert time.perf_counter() - began < 20  # backtracking would take years


# Where it stands


def test_patterns_have_their_place(load: Load) -> None:
    patterns = load("tasks:\n  a:\n  b.*:\n    shadow: true\n").patterns
    assert {name: (place.line, place.column) for name, place in patterns.items()} == {
        "a": (2, 3),
        "b.*": (3, 3),
    }
    assert list(patterns) == ["a", "b.*"]


PLACED = """\
defaults:
  shadow: true
tasks:
  b.*:
    significant_kwargs: [x, [y, str]]
    cache_duration: 1h
"""


@pytest.mark.parametrize(
    ("name", "field", "index", "where"),
    [
        ("b.*", None, None, (4, 3)),
        ("b.task", None, None, (4, 3)),
        ("b.task", "cache_duration", None, (6, 5)),
        ("b.task", "significant_kwargs", None, (5, 5)),
        ("b.task", "significant_kwargs", 0, (5, 26)),
        ("b.task", "significant_kwargs", 1, (5, 29)),
        ("b.task", "significant_kwargs", 9, (5, 5)),
        ("b.task", "shadow", None, (2, 3)),
        ("b.task", "on_duplicate", None, (4, 3)),
        ("other", "shadow", None, (0, 0)),
    ],
)
def test_later_checks_can_point_at_a_field(
    load: Load, name: str, field: str | None, index: int | None, where: tuple[int, int]
) -> None:
    problem = load(PLACED).problem(name, field, "it is wrong", index=index)
    assert problem == Problem("p.yaml", *where, "it is wrong")


def test_an_inline_problem_has_a_path() -> None:
    policies = load_policy({"tasks": {"a": {"significant_kwargs": ["x", "y"]}}})
    problem = policies.problem("a", "significant_kwargs", "it is wrong", index=1)
    assert problem == Problem(
        "<jobtastic_policy>", 0, 0, "tasks.a.significant_kwargs[1]: it is wrong"
    )


def test_an_index_of_another_field_points_at_that_field(load: Load) -> None:
    assert load(PLACED).problem("b.x", "cache_duration", "m", index=0).line == 6


# Every mistake at once


def test_every_mistake_is_told_at_once_in_the_order_of_the_file(load: Load) -> None:
    assert mistakes(
        load,
        """\
tasks:
  reports.divide:
    significant_kwargs:
      - [numerators, jsn]
      - denominators
      - denominators
    cache_durations: 1h
    memleak_threshold: 50MB
  billing.*:
    on_duplicate: serialise
    cache_duration: 1:30
    shadow: "no"
  billing.*:
    herd_avoidance_timeout: -1
defaults:
  cache_prefix: x
taks: 1
""",
    ) == [
        "p.yaml:4:22: found the text `jsn`, expected a converter: `str`, `repr`, `json` or "
        "`package.module:callable`; did you mean `json`?",
        "p.yaml:6:9: found the argument `denominators` twice, expected it once; the first is on "
        "line 5",
        "p.yaml:7:5: unknown field `cache_durations`; did you mean `cache_duration`?",
        "p.yaml:8:24: found the text `50MB`, expected a number of MB such as `50`, 0 for every "
        "growth, or -1 for off",
        "p.yaml:10:19: found the text `serialise`, expected `join`, `serialize`, `raise` "
        "or `buffer_one`; did "
        "you mean `serialize`?",
        f"p.yaml:11:21: found the number `1:30`, expected {A_DURATION}, or -1 for never; YAML "
        "reads it in base 60: write `90s`",
        "p.yaml:12:13: found the text `no`, expected `true` or `false`",
        "p.yaml:13:3: found the key `billing.*` twice, expected it once; the first is on line 9",
        f"p.yaml:14:29: found the number `-1`, expected {A_DURATION}",
        "p.yaml:16:3: `cache_prefix` belongs to a task, not to `defaults`",
        "p.yaml:17:1: unknown key `taks`; did you mean `tasks`?",
    ]


def test_the_error_reads_as_a_list(load: Load) -> None:
    with pytest.raises(PolicyError) as caught:
        load("tasks:\n  a:\n    shadow: 1\n    chache_duration: 1\n")
    assert str(caught.value) == (
        "2 mistakes in the jobtastic policy:\n"
        "  p.yaml:3:13: found the number `1`, expected `true` or `false`\n"
        "  p.yaml:4:5: unknown field `chache_duration`; did you mean `cache_duration`?"
    )


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("-5", ""),
        ("-0.5", ""),
        ("-1", ""),
        (".nan", ""),
        ("-.inf", ""),
        (".inf", "; that is more than 100 years: write `forever`"),
        ("3155760001", "; that is more than 100 years: write `forever`"),
        ("1:30", "; YAML reads it in base 60: write `90s`"),
        ("1:00:00.5", "; YAML reads it in base 60: write `3600.5s`"),
        ("010", "; write it in plain decimal, without a leading zero"),
        ("0x10", "; write it in plain decimal, without a leading zero"),
    ],
)
def test_numbers_that_are_no_duration(load: Load, written: str, message: str) -> None:
    assert mistakes(load, one_task(f"stale_while_revalidate: {written}")) == [
        f"p.yaml:3:29: found the number `{written}`, expected {A_DURATION}{message}"
    ]


@pytest.mark.parametrize(
    ("written", "text", "message"),
    [
        ("'60'", "60", "; for seconds, write `60` without quotes"),
        ("1H", "1H", "; did you mean `1h`?"),
        ("5 m", "5 m", "; did you mean `5m`?"),
        ("Forever", "Forever", "; did you mean `forever`?"),
        ("forver", "forver", "; did you mean `forever`?"),
        ("1h30m", "1h30m", "; write one number with one unit: `ms`, `s`, `m`, `h` or `d`"),
        ("10min", "10min", "; write one number with one unit: `ms`, `s`, `m`, `h` or `d`"),
        ("-1s", "-1s", ""),
        ("36526d", "36526d", "; that is more than 100 years: write `forever`"),
        ("2020-01-01", "2020-01-01", ""),
        ('"1h\\n"', "1h\\n", "; did you mean `1h`?"),
    ],
)
def test_texts_that_are_no_duration(load: Load, written: str, text: str, message: str) -> None:
    assert mistakes(load, one_task(f"herd_avoidance_timeout: {written}")) == [
        f"p.yaml:3:29: found the text `{text}`, expected {A_DURATION}{message}"
    ]


@pytest.mark.parametrize(
    ("written", "found"),
    [
        ("true", "`true`, which YAML reads as true"),
        ("off", "`off`, which YAML reads as false"),
        ("", "nothing"),
        ("~", "nothing"),
        ("[1]", "a list"),
        ("{a: 1}", "a mapping"),
        ("''", "empty text"),
    ],
)
def test_other_kinds_are_no_duration(load: Load, written: str, found: str) -> None:
    column = 29 if written else 28
    assert mistakes(load, one_task(f"herd_avoidance_timeout: {written}".rstrip())) == [
        f"p.yaml:3:{column}: found {found}, expected {A_DURATION}"
    ]


def test_a_failure_cached_for_no_time_is_ambiguous(load: Load) -> None:
    assert mistakes(load, one_task("failure_cache_duration: 0")) == [
        f"p.yaml:3:29: found the number `0`, expected {A_DURATION}, or -1 for never; 0 could mean "
        "either"
    ]


@pytest.mark.parametrize("written", ["-2", "-0.5", "fifty", ".inf", ".nan", "true", "[]", "1:30"])
def test_thresholds_are_numbers_of_mb(load: Load, written: str) -> None:
    [mistake] = mistakes(load, one_task(f"memleak_threshold: {written}"))
    assert mistake.startswith("p.yaml:3:24: found ")
    assert mistake.endswith(
        "expected a number of MB such as `50`, 0 for every growth, or -1 for off"
    )


@pytest.mark.parametrize("written", ["-1", "1.5", "101", "true", "many", "[]", "1:30", ".nan"])
def test_traces_name_a_whole_number_of_call_sites(load: Load, written: str) -> None:
    [mistake] = mistakes(load, one_task(f"memleak_threshold: 5\n    memleak_trace: {written}"))
    assert mistake.startswith("p.yaml:4:20: found ")
    assert mistake.endswith("expected a number of call sites from 0 (off) to 100, such as `5`")


@pytest.mark.parametrize("field", ["memleak_trace: 3", "memleak_action: recycle"])
def test_what_refines_the_watch_on_memory_needs_one(load: Load, field: str) -> None:
    name = field.partition(":")[0]
    expected = f"`{name}` needs `memleak_threshold`, which switches the watch on memory on"
    assert mistakes(load, one_task(field)) == [f"p.yaml:3:5: {expected}"]
    defaults = f"defaults:\n  {field}\ntasks:\n"
    assert mistakes(load, f"{defaults}  a:\n  b:\n") == [f"p.yaml:2:3: {expected}"]
    # Where some task is watched, the others may inherit it; a mistake is told only once.
    assert load(f"{defaults}  a: {{memleak_threshold: 5}}\n  b:\n").for_task("b")
    text = f"{defaults}  a: {{memleak_threshold: 5MB}}\n  b:\n"
    assert len(mistakes(load, text)) == 1


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (
            "on_broker_error: run",
            "3:22: found the text `run`, expected `raise`, `eager` or `fail`",
        ),
        (
            "on_broker_error: rise",
            "3:22: found the text `rise`, expected `raise`, `eager` or `fail`; did you mean "
            "`raise`?",
        ),
        ("on_store_error: 1", "3:21: found the number `1`, expected `run` or `raise`"),
        (
            "on_duplicate: no",
            "3:19: found `no`, which YAML reads as false, expected `join`, "
            "`serialize`, `raise` or `buffer_one`",
        ),
        ("cache_prefix: ''", "3:19: found empty text, expected a prefix: text that is not empty"),
        (
            "cache_prefix: 5",
            "3:19: found the number `5`, expected a prefix: text that is not empty",
        ),
        (
            "significant_kwargs: x",
            "3:25: found the text `x`, expected a list, each item an argument's `name`, or "
            "`[name, converter]`",
        ),
        (
            "significant_kwargs: [[x]]",
            "3:26: found a list of 1, expected an argument's `name`, or `[name, converter]`",
        ),
        (
            "significant_kwargs: [x: str]",
            "3:26: found a mapping, expected an argument's `name`, or `[name, converter]`; write "
            "`[x, str]`",
        ),
        (
            "significant_kwargs: [no]",
            "3:26: found `no`, which YAML reads as false, expected an argument's `name`, or "
            "`[name, converter]`; quote it: 'no'",
        ),
        (
            "vary: headers",
            "3:11: found the text `headers`, expected a list of `headers`, `queue` or "
            "`headers.NAME`; for arguments alone, write `[]`",
        ),
        (
            "vary: [quueue]",
            "3:12: found the text `quueue`, expected a list of `headers`, `queue` or "
            "`headers.NAME`; did you mean `queue`?",
        ),
        (
            "significant_kwargs: [5]",
            "3:26: found the number `5`, expected an argument's `name`, or `[name, converter]`",
        ),
        (
            "zzz: 1",
            "3:5: unknown field `zzz`, expected one of: significant_kwargs, "
            "herd_avoidance_timeout, cache_duration, cache_prefix, memleak_threshold, "
            "memleak_trend, memleak_trace, memleak_action, on_broker_error, on_store_error, "
            "vary, on_duplicate, unique_until, unique_for, debounce, debounce_max, arguments, "
            "stale_while_revalidate, failure_cache_duration, shadow, estimate_by",
        ),
        (
            "divide: {cache_duration: 1h}",
            "3:5: unknown field `divide`; task names are written in full, such as `reports.divide`",
        ),
        (
            "cache_duration: 1\n    cache_duration: 2",
            "4:5: found the key `cache_duration` twice, expected it once; the first is on line 3",
        ),
        ("5: 1", "3:5: found the number `5`, expected a key that is text; quote it: '5'"),
        (
            "on: 1",
            "3:5: found `on`, which YAML reads as true, expected a key that is text; quote it: "
            "'on'",
        ),
        ("? [x]\n    : 1", "3:7: found a list, expected a key that is text"),
        (
            "<<: {shadow: true}",
            "3:5: found the merge key `<<`, which is not supported; write shared fields under "
            "`defaults`, or one glob for several tasks",
        ),
        (
            "shadow: !!python/object:os.system {}",
            "3:13: found the tag `!!python/object:os.system`, expected a plain value; tags are not "
            "allowed",
        ),
        (
            "shadow: !!bool yes",
            "3:13: found the tag `!!bool`, expected a plain value; tags are not allowed",
        ),
        ("shadow: *x", "3:13: found the alias `*x`, expected `&x` before"),
        (
            "cache_prefix: &x [*x]",
            "3:23: the alias `*x` contains itself",
        ),
    ],
)
def test_a_mistake_in_a_task(load: Load, fields: str, expected: str) -> None:
    assert mistakes(load, one_task(fields)) == [f"p.yaml:{expected}"]


@pytest.mark.parametrize("glob", ["*.divide", "*divide", "*", "[ab].divide", "*.div*"])
def test_a_glob_without_its_quotes_is_told_how_to_be_written(load: Load, glob: str) -> None:
    (mistake,) = mistakes(load, f"tasks:\n  reports.divide: {{}}\n  {glob}:\n    shadow: true\n")
    assert mistake.startswith("p.yaml:3:")
    assert mistake.endswith(f'; a glob is quoted: `"{glob}"`')


@pytest.mark.parametrize("field", ["cache_duration: 1h", "significant_kwargs: [a]"])
def test_a_field_beside_its_task_is_told_where_it_belongs(load: Load, field: str) -> None:
    name = field.partition(":")[0]
    assert mistakes(load, f"tasks:\n  reports.divide:\n  {field}\n") == [
        f"p.yaml:3:3: `{name}` is a field: indent it under the name of its task"
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "",
            "1:1: the policy is empty, expected at least "
            "`tasks: {reports.divide: {cache_duration: 1h}}`",
        ),
        (
            "# nothing\n---\n",
            "1:1: the policy is empty, expected at least "
            "`tasks: {reports.divide: {cache_duration: 1h}}`",
        ),
        (
            "\n- a\n",
            "2:1: found a list, expected a mapping such as "
            "`tasks: {reports.divide: {cache_duration: 1h}}`",
        ),
        (
            "defaults: {shadow: true}\n",
            "1:1: the key `tasks` is missing, expected at least "
            "`tasks: {reports.divide: {cache_duration: 1h}}`",
        ),
        (
            "tasks: [a]\n",
            "1:8: found a list, expected a mapping of task names to their fields",
        ),
        (
            "tasks: ~\n",
            "1:8: found nothing, expected a mapping of task names to their fields; for no task at "
            "all, write `tasks: {}`",
        ),
        (
            "tasks: {}\ndefaults: 5\n",
            "2:11: found the number `5`, expected a mapping of fields, such as "
            "`{cache_duration: 1h}`",
        ),
        (
            "tasks:\n  a: 1h\n",
            "2:6: found the text `1h`, expected a mapping of fields, such as "
            "`{cache_duration: 1h}`",
        ),
        (
            "tasks:\n  '':\n",
            "2:3: found an empty name, expected a task name or a glob",
        ),
        (
            "tasks: {}\ncache_duration: 1h\n",
            "2:1: unknown key `cache_duration`, expected `defaults` or `tasks`; write it under one "
            "of these",
        ),
        (
            "tasks: {}\nreports.divide: {}\n",
            "2:1: unknown key `reports.divide`, expected `defaults` or `tasks`; task names stand "
            "under `tasks`",
        ),
        (
            "tasks: {}\nzzz: 1\n",
            "2:1: unknown key `zzz`, expected `defaults` or `tasks`",
        ),
        (
            "tasks: {}\ntasks: {}\n",
            "2:1: found the key `tasks` twice, expected it once; the first is on line 1",
        ),
        (
            "tasks: {}\ndefaults: {significant_kwargs: [a]}\n",
            "2:12: `significant_kwargs` belongs to a task, not to `defaults`",
        ),
        ("tasks: {}\n---\ntasks: {}\n", "2:1: found a second document, expected only one"),
        (
            "!!python/object:os.system {}\n",
            "1:1: found the tag `!!python/object:os.system`, expected a plain value; tags are not "
            "allowed",
        ),
        (
            "tasks: {ü: \u0007}\n",
            "1:12: found the control character `\\x07`, expected text",
        ),
    ],
)
def test_a_mistake_in_the_file(load: Load, text: str, expected: str) -> None:
    assert mistakes(load, text) == [f"p.yaml:{expected}"]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("tasks: {a: \n", 2),
        ("tasks:\n  a: 'open\n", 3),
        ("tasks:\n  a: b: c\n", 2),
        ("tasks: {}\n%\n", 2),
        ("tasks:\n  - a\n b\n", 3),
    ],
)
def test_a_syntax_error_has_the_place_where_the_scanner_stopped(
    load: Load, text: str, line: int
) -> None:
    [mistake] = mistakes(load, text)
    assert re.match(rf"p\.yaml:{line}:\d+: not valid YAML: .", mistake)


def test_a_tab_gets_advice(load: Load) -> None:
    [mistake] = mistakes(load, "tasks:\n\ta:\n")
    assert mistake.startswith("p.yaml:2:1: not valid YAML: ")
    assert mistake.endswith("; indent with spaces, not tabs")


def test_an_escape_that_is_no_character(load: Load) -> None:
    [mistake] = mistakes(load, 'tasks:\n  "\\UFFFFFFFF": 1\n')
    assert re.match(r"p\.yaml:[12]:\d+: not valid YAML", mistake)


def test_a_mistake_repeated_by_aliases_is_told_once(load: Load) -> None:
    text = "tasks:\n  a: &x {shadow: 1}\n  b: *x\n  c: *x\n"
    assert mistakes(load, text) == ["p.yaml:2:18: found the number `1`, expected `true` or `false`"]


def test_long_and_unprintable_text_is_shown_short_and_printable(load: Load) -> None:
    [mistake] = mistakes(load, one_task(f'"x\\e{"y" * 90}": 1'))
    assert mistake.startswith(f"p.yaml:3:5: unknown field `x\\x1b{'y' * 52}...`, expected")


def test_what_no_file_can_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert mistakes(load_policy, "none.yaml") == [
        f"none.yaml: there is no such file in {tmp_path}; create it, or set `jobtastic_policy` to "
        "the path of the policy file"
    ]
    assert mistakes(load_policy, tmp_path) == [
        f"{tmp_path}: found a directory, expected a YAML file"
    ]
    [nul] = mistakes(load_policy, "a\0b")
    assert "cannot be read" in nul
    assert mistakes(load_policy, 5) == [
        "<jobtastic_policy>: found an object of type `int`, expected a path or a mapping"
    ]


def test_an_unreadable_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", refuse)
    assert mistakes(load_policy, "p.yaml") == ["p.yaml: the file cannot be read: Permission denied"]


def test_a_file_that_is_not_utf8(load: Load) -> None:
    assert mistakes(load, b"tasks:\n  a\xff: 1\n") == [
        "p.yaml: found the byte 0xff in line 2, which is not UTF-8; save the file as UTF-8"
    ]


def test_a_file_that_is_too_large(load: Load) -> None:
    assert load(b"tasks: {}\n" + b"#" * (document.MAX_BYTES - 10))
    assert mistakes(load, b"tasks: {}\n" + b"#" * (document.MAX_BYTES - 9)) == [
        "p.yaml: found more than 1 MiB, expected a policy file of at most 1 MiB"
    ]


# Fields that contradict each other


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "tasks:\n  a:\n    on_duplicate: serialize\n    cache_duration: 1h\n",
            ["4:5: {rule}: `cache_duration` must be -1"],
        ),
        (
            "defaults:\n  on_duplicate: serialize\ntasks:\n  a:\n    failure_cache_duration: 5\n",
            ["5:5: {rule}: `failure_cache_duration` must be -1"],
        ),
        (
            "defaults:\n  cache_duration: 5\ntasks:\n  b:\n  a:\n    on_duplicate: serialize\n",
            ["6:5: {rule}: `cache_duration`, set on line 2 in `defaults`, must be -1"],
        ),
        (
            "defaults: {cache_duration: 5, on_duplicate: serialize}\ntasks: {a: , b: }\n",
            ["1:31: {rule}: `cache_duration`, set on line 1 in `defaults`, must be -1"],
        ),
        (
            "tasks:\n  a:\n    on_duplicate: serialize\n    cache_duration: 5\n"
            "    stale_while_revalidate: 5\n",
            [
                "4:5: {rule}: `cache_duration` must be -1",
                "5:5: {rule}: `stale_while_revalidate` must be 0",
            ],
        ),
    ],
)
def test_serialize_excludes_caching(load: Load, text: str, expected: list[str]) -> None:
    rule = "`on_duplicate: serialize` runs every call, which excludes caching"
    assert mistakes(load, text) == [f"p.yaml:{line.format(rule=rule)}" for line in expected]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (
            "debounce: 10\n    debounce_max: 10",
            "4:5: `debounce_max` must be longer than `debounce`, or no call would ever be put off; "
            "without it, it is ten times `debounce`",
        ),
        ("debounce_max: 10", "3:5: `debounce_max` needs `debounce`, which it bounds"),
        (
            "debounce: forever",
            "3:15: found the text `forever`, expected a duration: seconds, or such as `90s`, `5m`, "
            "`1h`, `7d`; `forever` would never begin",
        ),
        (
            "arguments: last",
            "3:5: `arguments: last` needs `debounce` or `on_duplicate: buffer_one`: nothing else "
            "waits for further calls",
        ),
        (
            "debounce: 5\n    on_duplicate: raise",
            "4:5: `debounce` shares one run, so `on_duplicate: raise` excludes it; leave "
            "`on_duplicate` out",
        ),
        (
            "herd_avoidance_timeout: 0\n    debounce: 5",
            "4:5: `debounce` needs `herd_avoidance_timeout`, without which no call is claimed",
        ),
        (
            "debounce: 5\n    cache_duration: 1h",
            "4:5: `debounce` answers a call by a run that begins after it, which excludes caching: "
            "`cache_duration` must be -1",
        ),
    ],
)
def test_what_does_not_go_with_calls_in_time(load: Load, fields: str, expected: str) -> None:
    assert mistakes(load, one_task(fields)) == [f"p.yaml:{expected}"]


def test_what_a_task_inherits_is_told_at_the_task(load: Load) -> None:
    text = "defaults:\n  cache_duration: 1h\ntasks:\n  a:\n    debounce: 5\n"
    assert mistakes(load, text) == [
        "p.yaml:5:5: `debounce` answers a call by a run that begins after it, which excludes "
        "caching: `cache_duration`, set on line 2 in `defaults`, must be -1"
    ]
    text = "defaults:\n  debounce: 5\ntasks:\n  b: {debounce: 0, on_duplicate: serialize}\n"
    assert load(text).for_task("b").debounce == 0


def test_a_serialized_task_may_switch_the_default_off(load: Load) -> None:
    assert load(
        "defaults: {cache_duration: 5, stale_while_revalidate: 5}\n"
        "tasks: {b: , a: {on_duplicate: serialize, cache_duration: -1, stale_while_revalidate: 0}}"
    )


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("tasks:\n  a:\n    stale_while_revalidate: 5\n", "3:5"),
        (
            "defaults:\n  cache_duration: 5\ntasks:\n  a:\n    cache_duration: -1\n"
            "    stale_while_revalidate: 5\n",
            "6:5",
        ),
        ("defaults:\n  stale_while_revalidate: 5\ntasks:\n  a:\n", "2:3"),
    ],
)
def test_stale_needs_a_cache_duration(load: Load, text: str, where: str) -> None:
    assert mistakes(load, text) == [
        f"p.yaml:{where}: `stale_while_revalidate` needs `cache_duration`, after which it begins"
    ]


def test_a_stale_default_is_off_for_tasks_that_cache_nothing(load: Load) -> None:
    policies = load("defaults: {stale_while_revalidate: 5}\ntasks: {a: , b: {cache_duration: 5}}")
    stale = {name: policies.for_task(name).stale_while_revalidate for name in "ab"}  # type: ignore[union-attr]
    assert stale == {"a": 0.0, "b": 5.0}


@pytest.mark.parametrize(
    "text",
    [
        "tasks: {a: {cache_duration: soon, stale_while_revalidate: 5}}",
        "defaults: {stale_while_revalidate: 5}\ntasks: {a: {cache_duration: soon}}",
        "defaults: {cache_duration: soon}\ntasks: {a: {stale_while_revalidate: 5}}",
        "defaults: {on_duplicate: serialize}\ntasks: {a: {on_duplicate: jion, cache_duration: 5}}",
    ],
)
def test_a_field_with_a_mistake_is_not_held_against_others(load: Load, text: str) -> None:
    assert len(mistakes(load, text)) == 1


def test_a_contradiction_is_told_beside_other_mistakes(load: Load) -> None:
    fields = "{on_duplicate: serialize, failure_cache_duration: 5, cache_duration: soon, shadow: 1}"
    assert [line.split(": ")[0] for line in mistakes(load, f"tasks:\n  a: {fields}\n")] == [
        "p.yaml:2:32",
        "p.yaml:2:75",
        "p.yaml:2:89",
    ]


# Converters


def test_json_is_the_same_for_equal_values() -> None:
    assert converters.json_text({"b": [1, None], "a": "ü"}) == '{"a":"\\u00fc","b":[1,null]}'


def test_dotted_paths_are_imported(load: Load) -> None:
    Path("own_converters.py").write_text(
        "def month(day):\n    return day[:7]\n\nclass By:\n    @staticmethod\n    def id(x): ...\n"
    )
    text = one_task(
        "significant_kwargs: [[day, own_converters:month], [x, 'own_converters:By.id']]"
    )
    policy = load(text).for_task("a")
    assert policy is not None
    assert policy.significant_kwargs is not None
    day, x = policy.significant_kwargs
    assert (day.name, day.converter) == ("day", "own_converters:month")
    assert day.convert is not None
    assert day.convert("2024-05-06") == "2024-05"
    assert x.converter == "own_converters:By.id"


@pytest.mark.parametrize(
    ("converter", "reason"),
    [
        ("own_missing.x:f", "; there is no module `own_missing`"),
        ("own_package.missing:f", "; there is no module `own_package.missing`"),
        ("own_package:f", "; `own_package` has no attribute `f`"),
        ("own_package:name.f", "; `own_package.name` has no attribute `f`"),
        ("own_package:name", "; `own_package.name` is not callable, but of type `str`"),
        (
            "own_package.needs:f",
            "; importing `own_package.needs` failed: No module named 'own_needed'",
        ),
        (
            "own_package.broken:f",
            "; importing `own_package.broken` failed: ZeroDivisionError: division by zero",
        ),
        ("own_package.leaves:f", "; importing `own_package.leaves` failed: SystemExit: 3"),
        ("own_package.broken.f", "; did you mean `own_package.broken:f`?"),
        ("int", ""),
        ("strr", "; did you mean `str`?"),
        ("a:b:c", ""),
        (":b", ""),
    ],
)
def test_a_converter_says_which_part_of_it_failed(load: Load, converter: str, reason: str) -> None:
    package = Path("own_package")
    package.mkdir()
    (package / "__init__.py").write_text("name = 'text'\n")
    (package / "needs.py").write_text("import own_needed\n")
    (package / "broken.py").write_text("1 / 0\n")
    (package / "leaves.py").write_text("raise SystemExit(3)\n")
    assert mistakes(load, one_task(f"significant_kwargs: [[x, '{converter}']]")) == [
        f"p.yaml:3:30: found the text `{converter}`, expected a converter: `str`, `repr`, `json` "
        f"or `package.module:callable`{reason}"
    ]


def test_converters_given_inline_may_be_callables() -> None:
    pairs = [("a", str), ("b", len), ("c", "json")]
    policy = load_policy({"tasks": {"t": {"significant_kwargs": pairs}}}).for_task("t")
    assert policy is not None
    assert policy.significant_kwargs == (
        Significant("a", "str", str),
        Significant("b", "builtins:len", len),
        Significant("c", "json", converters.json_text),
    )


# Inline mappings


def test_a_mapping_means_the_same_as_the_file(load: Load) -> None:
    fields: dict[str, Any] = {
        "significant_kwargs": ["a", ["b", "str"]],
        "cache_duration": "1h",
        "herd_avoidance_timeout": 5,
        "shadow": True,
    }
    inline = load_policy({"defaults": {"on_broker_error": "fail"}, "tasks": {"a": fields}})
    assert inline.source == "<jobtastic_policy>"
    text = yaml.safe_dump({"defaults": {"on_broker_error": "fail"}, "tasks": {"a": fields}})
    assert inline.for_task("a") == load(text).for_task("a")


def test_a_timedelta_is_a_duration() -> None:
    inline = {"tasks": {"a": {"cache_duration": timedelta(hours=1)}}}
    policy = load_policy(inline).for_task("a")
    assert policy is not None
    assert policy.cache_duration == 3600


def test_mistakes_in_a_mapping_have_a_path() -> None:
    assert mistakes(
        load_policy,
        {
            "taks": 1,
            5: 1,
            "tasks": {
                "reports.divide": {
                    "cache_duration": math.inf,
                    "cache_durations": 1,
                    "memleak_threshold": 10**5000,
                    "shadow": None,
                    "on_duplicate": True,
                    "on_broker_error": object(),
                    "significant_kwargs": ["x", ("x", "jsn"), "x"],
                }
            },
        },
    ) == [
        f"<jobtastic_policy>: {line}"
        for line in [
            "5: found the number `5`, expected a key that is text; quote it: '5'",
            "taks: unknown key `taks`; did you mean `tasks`?",
            "tasks.reports.divide.cache_duration: found the number `inf`, expected "
            f"{A_DURATION}, or -1 for never; that is more than 100 years: write `forever`",
            "tasks.reports.divide.cache_durations: unknown field `cache_durations`; did you mean "
            "`cache_duration`?",
            "tasks.reports.divide.memleak_threshold: found the number `over 10**100`, expected a "
            "number of MB such as `50`, 0 for every growth, or -1 for off",
            "tasks.reports.divide.shadow: found nothing, expected `true` or `false`",
            "tasks.reports.divide.on_duplicate: found `True`, expected `join`, `serialize`, "
            "`raise` or `buffer_one`",
            "tasks.reports.divide.on_broker_error: found an object of type `object`, expected "
            "`raise`, `eager` or `fail`",
            "tasks.reports.divide.significant_kwargs[1][1]: found the text `jsn`, expected a "
            "converter: `str`, `repr`, `json` or `package.module:callable`; did you mean `json`?",
            "tasks.reports.divide.significant_kwargs[2]: found the argument `x` twice, expected it "
            "once; the first is `tasks.reports.divide.significant_kwargs[0]`",
        ]
    ]


def test_an_empty_mapping() -> None:
    assert mistakes(load_policy, {}) == [
        "<jobtastic_policy>: the policy is empty, expected at least "
        "`tasks: {reports.divide: {cache_duration: 1h}}`"
    ]


def test_a_mapping_that_holds_itself_ends() -> None:
    endless: dict[str, Any] = {}
    endless["tasks"] = endless
    assert mistakes(load_policy, endless) == ["<jobtastic_policy>: nested deeper than 16 levels"]
    wide: list[Any] = []
    for _ in range(12):
        wide = [wide] * 10
    assert mistakes(load_policy, {"tasks": wide}) == [
        "<jobtastic_policy>: found more than 20,000 values"
    ]


# Whatever a file holds


def bomb(levels: int) -> str:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, levels)]
    return "\n".join(lines)


#: Half of what a file may hold; where it is not CI a sixteenth of that, which takes as much less.
HALF = document.MAX_BYTES // (2 if CI else 32)


@pytest.mark.parametrize(
    "text",
    [
        "[" * 2**20,
        "[" * HALF,
        "{" * HALF,
        "- " * HALF,
        "? " * HALF,
        "{a: " * (HALF // 2),
        "".join(" " * n + "a:\n" for n in range(700)),
        bomb(9),
        "a: " + "&a " * HALF,
        "[" + "*a," * (HALF // 2),
        "a: 1\n" * (HALF // 4),
        "---\n" * (HALF // 2),
        "a b " * (HALF // 2),
        "a\n" * HALF,
        "\n" * 2 * HALF,
        "%a\n" * (HALF // 2),
        '"' + "\\x41" * (HALF // 2) + '"',
        '"' + "\n" * (2 * HALF - 2) + '"',
        "!" * 2 * HALF,
        "tasks:\n" + "".join(f"  a{n}: {{x{n}: 1}}\n" for n in range(5_000)),
        "tasks:\n" + "".join(f"  a{n}: {{cache_durat{n}: 1}}\n" for n in range(5_000)),
        "tasks: {a: {significant_kwargs: [" + "[x, yy]," * 6_000 + "]}}",
    ],
    ids=lambda text: f"{text[:12]!r}-{len(text)}",
)
def test_hostile_files_end_quickly_and_in_a_policy_error(load: Load, text: str) -> None:
    began = time.process_time()
    assert mistakes(load, text)
    assert time.process_time() - began < 20  # quadratic or worse would take minutes


def test_an_alias_bomb_is_counted_as_it_expands(load: Load) -> None:
    [mistake] = mistakes(load, bomb(9))
    assert mistake == "p.yaml:5:10: found more than 20,000 values, expected at most that many"


def test_depth_is_limited_also_through_aliases(load: Load) -> None:
    deep = f"a: &a {'[' * 10}{']' * 10}\nb: {'[' * 8}*a"
    [mistake] = mistakes(load, deep)
    assert mistake == "p.yaml:2:12: nested deeper than 16 levels, expected at most 5"


QUIET = settings(max_examples=examples(100), suppress_health_check=list(HealthCheck))
WORDS = [
    "tasks", "defaults", "a", "b.*", *fields.FIELDS, ":", ": ", " ", "\n", "\n  ", "\n    ",
    "- ", "[", "]", "{", "}", ",", "'", '"', "&x ", "*x", "!!python/object:os.system", "!", "<<",
    "|\n", ">", "#", "%YAML 1.2\n", "---\n", "...", "?", "~", "yes", "1:30", "1h", "-1", "0x1_",
    ".inf", ".", "_", "\\", "\\uD800", "\\U00110000", "\t", "\r", "\0", "\x85", "\ufeff", "é", "😀",
    "str", "json", "os:nope", "2020-01-01", "=", "serialize", "forever",
]  # fmt: skip


@pytest.mark.parametrize("number", [10**400, -(10**400)])
def test_a_whole_number_too_large_for_a_float(number: int) -> None:
    with pytest.raises(PolicyError):
        load_policy({"tasks": {"a": {"herd_avoidance_timeout": number}}})


def only_policy_errors(source: Any) -> None:
    try:
        load_policy(source)
    except PolicyError as exc:
        error = exc
    else:
        return
    assert error.problems
    # No lone surrogate, which could not be printed.
    assert str(error).encode()


@QUIET
@given(st.binary(max_size=200))
def test_random_bytes(load: Load, raw: bytes) -> None:
    Path("p.yaml").write_bytes(raw)
    only_policy_errors("p.yaml")


@QUIET
@given(st.lists(st.sampled_from(WORDS), max_size=40).map("".join))
def test_random_yaml_like_text(load: Load, text: str) -> None:
    Path("p.yaml").write_bytes(text.encode())
    only_policy_errors("p.yaml")


NAMES = st.sampled_from(["tasks", "defaults", "a", "b.*", "[z-a]", *fields.FIELDS])
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["1h", "forever", "serialize", "json", "os:nope", "a.b", "x"])
)
TREES = st.recursive(
    SCALARS,
    lambda below: (
        st.lists(below, max_size=4)
        | st.dictionaries(NAMES | st.text(max_size=4), below, max_size=5)
        | st.dictionaries(st.integers(), below, max_size=2)
    ),
    max_leaves=20,
)
POLICIES = st.fixed_dictionaries(
    {"tasks": st.dictionaries(NAMES, TREES)}, optional={"defaults": TREES}
)


@QUIET
@given(TREES | POLICIES)
def test_random_structures(tree: Any) -> None:
    only_policy_errors(tree if not isinstance(tree, str) else {"tasks": tree})


@QUIET
@given(POLICIES)
def test_random_structures_written_as_yaml(load: Load, tree: Any) -> None:
    Path("p.yaml").write_bytes(yaml.safe_dump(tree, allow_unicode=True).encode("utf-8", "replace"))
    only_policy_errors("p.yaml")


# The schema, the examples, the page


def test_the_schema_names_every_field_and_its_default() -> None:
    schema = policy_schema()
    msgspec.json.encode(schema)
    every = schema["properties"]["tasks"]["additionalProperties"]["properties"]
    common = schema["properties"]["defaults"]["properties"]
    names = [field.name for field in msgspec.structs.fields(TaskPolicy)]
    assert ["pattern", *every] == names
    assert set(every) - set(common) == {"significant_kwargs", "cache_prefix", "estimate_by"}
    assert {name: part.get("default", "none") for name, part in every.items()} == {
        "significant_kwargs": "none",
        "herd_avoidance_timeout": 60,
        "cache_duration": -1,
        "cache_prefix": "none",
        "memleak_threshold": -1,
        "memleak_trend": True,
        "memleak_trace": 0,
        "memleak_action": "log",
        "on_broker_error": "raise",
        "on_store_error": "run",
        "vary": ["headers", "queue"],
        "on_duplicate": "join",
        "unique_until": "end",
        "unique_for": 0,
        "debounce": 0,
        "debounce_max": "none",
        "arguments": "first",
        "stale_while_revalidate": 0,
        "failure_cache_duration": -1,
        "shadow": False,
        "estimate_by": "none",
    }
    assert every["on_broker_error"]["enum"] == ["raise", "eager", "fail"]
    assert all(part["description"] for part in every.values())


def test_a_written_default_means_the_default(load: Load) -> None:
    for field in fields.FIELDS.values():
        if field.written_default is not None:
            written = msgspec.json.encode(field.written_default).decode()
            assert field_of(load, field.name, written) == field.default


def test_the_minimal_example_works() -> None:
    policies = load_policy(ROOT / "config_examples" / "minimal.yaml")
    assert list(policies.patterns) == ["reports.divide"]


def test_the_annotated_example_works_and_shows_every_field() -> None:
    path = ROOT / "config_examples" / "annotated.yaml"
    policies = load_policy(path)
    policy = policies.for_task("billing.invoice")
    assert policy is not None
    assert policy.on_duplicate == "serialize"
    lines = path.read_text().splitlines()
    for field in fields.FIELDS.values():
        assert any(line.strip().startswith(f"{field.name}:") for line in lines), field.name


def test_the_page_has_a_row_for_every_field_with_its_default() -> None:
    page = (ROOT / "docs" / "policy.md").read_text()
    for field in fields.FIELDS.values():
        [row] = [line for line in page.splitlines() if line.startswith(f"| `{field.name}` |")]
        if field.written_default is not None:
            assert (
                f"| `{msgspec.json.encode(field.written_default).decode().strip(chr(34))}` |" in row
            )


def test_the_page_shows_the_real_errors(load: Load) -> None:
    page = (ROOT / "docs" / "policy.md").read_text()
    section = page[page.index("## When something is wrong") :]
    text, shown = re.findall(r"```\w+\n(.*?)```", section, re.DOTALL)[:2]
    with pytest.raises(PolicyError) as caught:
        load(text)
    assert shown.strip() == str(caught.value).replace("p.yaml", "jobtastic.yaml")


def test_errors_show_what_was_meant_by_a_near_word() -> None:
    assert problems.did_you_mean("x" * 100, ["x" * 99]) == ""
    assert problems.did_you_mean("shdow", fields.FIELDS) == "; did you mean `shadow`?"


def test_what_holds_is_written_as_in_the_file() -> None:
    annotated = load_policy(ROOT / "config_examples" / "annotated.yaml")
    for name in annotated.patterns:
        policy = annotated.for_task(name)
        assert policy is not None
        lines = [line for line in in_force(annotated, policy) if not line.endswith(" (by default)")]
        text = "\n".join(f"    {line.removesuffix(' (from `defaults`)')}" for line in lines)
        again = load_policy(yaml.safe_load(f"tasks:\n  {name!r}:\n{text}\n")).for_task(name)
        assert again is not None
        for field in FIELDS:
            assert getattr(policy, field) == getattr(again, field), (name, field)


def test_who_decides_a_field_is_marked(load: Load) -> None:
    found = load("defaults: {cache_duration: 90s}\ntasks:\n  a: {vary: [], shadow: on}\n")
    policy = found.for_task("a")
    assert policy is not None
    lines = list(in_force(found, policy))
    assert {
        "significant_kwargs: every argument (by default)",
        "cache_duration: 90s (from `defaults`)",
        "failure_cache_duration: -1 (by default)",
        "shadow: true",
        "vary: []",
    } <= {*lines}
