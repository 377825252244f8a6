"""Equal arguments give equal keys, different ones different keys; nothing else comes of them."""

from __future__ import annotations

import copy
import json
import math
import pickle
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jobtastic_ext.errors import ArgumentNotEncodable
from jobtastic_ext.keys.call_key import call_key
from jobtastic_ext.keys.signature import CallSignature
from tests.thorough import examples

FUZZ = settings(max_examples=examples(200), database=None, suppress_health_check=list(HealthCheck))

SIMPLE = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=6)
    | st.binary(max_size=6)
    | st.dates()
    | st.datetimes()
    | st.timedeltas()
    | st.decimals()
    | st.uuids()
)
#: What may be a member of a set, or a key.
HASHABLE = st.none() | st.booleans() | st.integers() | st.text(max_size=4) | st.uuids()
VALUES = st.recursive(
    SIMPLE,
    lambda below: (
        st.lists(below, max_size=4)
        | st.lists(below, max_size=3).map(tuple)
        | st.dictionaries(HASHABLE, below, max_size=3)
        | st.sets(HASHABLE, max_size=3)
    ),
    max_leaves=10,
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda below: (
        st.lists(below, max_size=4) | st.dictionaries(st.text(max_size=4), below, max_size=3)
    ),
    max_leaves=10,
)


def task(a: Any = None, b: Any = None, *rest: Any, **more: Any) -> None:
    """The signature of a task that takes anything."""


SIGNATURE = CallSignature(task, name="task")


def key(*args: Any, **kwargs: Any) -> str | None:
    """The key, or None if the arguments were refused by name."""
    try:
        return call_key("jobtastic", "task", SIGNATURE, None, args, kwargs)
    except ArgumentNotEncodable as error:
        said = str(error)
    assert said.startswith("task: ")
    return None


def form(value: Any) -> Any:
    """What makes two values the same for a task that gets them as JSON: a second opinion."""
    if isinstance(value, float):
        return ("float", "nan") if math.isnan(value) else ("float", repr(value))
    if isinstance(value, list | tuple):
        return ("list", tuple(form(item) for item in value))
    if isinstance(value, dict):
        return ("dict", frozenset((form(k), form(v)) for k, v in value.items()))
    if isinstance(value, set | frozenset):
        return ("set", frozenset(form(item) for item in value))
    return (type(value).__name__, str(value))


@FUZZ
@given(VALUES)
def test_a_copy_has_the_same_key(value: Any) -> None:
    first = key(value)
    assert first == key(copy.deepcopy(value)) == key(pickle.loads(pickle.dumps(value)))
    assert first == key(a=value) == key(value, None)


@FUZZ
@given(JSON)
def test_a_message_has_the_same_key(value: Any) -> None:
    assert key(value) == key(json.loads(json.dumps(value)))
    assert key(value) is not None


@FUZZ
@given(JSON, JSON)
def test_different_arguments_have_different_keys(one: Any, other: Any) -> None:
    assert (key(one) == key(other)) == (form(one) == form(other))


@FUZZ
@given(st.lists(JSON, max_size=4), st.lists(JSON, max_size=4))
def test_the_places_of_arguments_count(one: list[Any], other: list[Any]) -> None:
    def full(args: list[Any]) -> Any:
        return form([*args, None, None][: max(2, len(args))])

    assert (key(*one) == key(*other)) == (full(one) == full(other))


class Odd:
    """An object that is against everybody."""

    def __init__(self, how: int) -> None:
        self.how = how

    def __hash__(self) -> int:
        return self.how

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("do not compare me")

    def __repr__(self) -> str:
        raise RuntimeError("do not print me")

    def __iter__(self) -> Any:
        raise RuntimeError("do not walk me")

    def __len__(self) -> int:
        return -1


@FUZZ
@given(
    st.recursive(
        st.builds(Odd, st.integers(0, 5)) | st.just(object()) | st.just(open) | st.just(task),
        lambda below: st.lists(below, min_size=1, max_size=3) | st.tuples(below, SIMPLE),
        max_leaves=4,
    )
)
def test_what_cannot_be_encoded_is_refused_by_name(value: Any) -> None:
    assert key(1, value) is None


def test_a_list_in_itself_is_refused() -> None:
    endless: list[Any] = []
    endless.append(endless)
    assert key(endless) is None
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    assert key(deep) is None
