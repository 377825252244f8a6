"""Groups, chords, chains and links of identical calls.

`group` and `chord` freeze their ids before anything is sent and ignore what `apply_async`
returns, so a header that the caller suppressed hangs for ever (celery-singleton, celery-once and
celery-heimdall do).  Here every part is sent, and the worker settles which of them run.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from celery import chain, chord, group

from tests.integration.conftest import Project, wait_until

TIMEOUT = 40


@pytest.fixture(params=["cached", "work"])
def task(request: pytest.FixtureRequest) -> str:
    """With caching and without."""
    return str(request.param)


def value_of(value: dict[str, object]) -> object:
    return value["x"]


def test_a_group_of_five_identical(either: Project, unique: str, task: str) -> None:
    header = either.task(task)
    values = group(header.s(unique) for _ in range(5)).apply_async().get(timeout=TIMEOUT)
    assert [value_of(value) for value in values] == [unique] * 5
    assert either.runs(task, unique) == 1


def test_a_group_of_runs_too_short_to_overlap(either: Project, unique: str, task: str) -> None:
    # The first member ends before the last is even sent; a group is one request all the same.
    header = either.task(task)
    parts = [header.s(unique, delay=0) for _ in range(30)]
    assert len(group(parts).apply_async().get(timeout=TIMEOUT)) == 30
    assert either.runs(task, unique) == 1


def test_a_chord_with_six_identical_headers_and_one_other(
    either: Project, unique: str, task: str
) -> None:
    header = either.task(task)
    parts = [header.s(unique) for _ in range(3)] + [header.s(unique + "!")]
    parts += [header.s(unique) for _ in range(3)]
    result = chord(parts)(either.task("tail").s("body"))
    label, values = result.get(timeout=TIMEOUT)
    assert label == "body"
    assert [value_of(value) for value in values] == [*[unique] * 3, unique + "!", *[unique] * 3]
    assert either.runs(task, unique) == 1
    assert either.runs(task, unique + "!") == 1


def test_chains_with_the_same_first_step_keep_their_tails(
    either: Project, unique: str, task: str
) -> None:
    first, tail = either.task(task), either.task("tail")
    with either.gate(unique) as gate:
        chains = [chain(first.s(unique, gate=gate), tail.s(label)) for label in "abc"]
        results = [tailed.apply_async() for tailed in chains]
    values = [result.get(timeout=TIMEOUT) for result in results]
    assert [label for label, _ in values] == ["a", "b", "c"]
    assert {value_of(value) for _, value in values} == {unique}
    assert either.runs(task, unique) == 1


def test_nested_chords(either: Project, unique: str) -> None:
    add, total = either.task("add"), either.task("total")
    with either.gate(unique) as gate:  # nothing is cached
        inner = [chord([add.s(1, 1, gate=gate) for _ in range(4)], total.s()) for _ in range(2)]
        outer = chord([*inner, add.s(1, 1, gate=gate), add.s(2, 2)], total.s()).apply_async()
    assert outer.get(timeout=TIMEOUT) == 8 + 8 + 2 + 4
    assert either.runs("add", [1, 1]) == 1
    assert either.runs("add", [2, 2]) == 1


def test_links_of_every_call_are_called(either: Project, unique: str, task: str) -> None:
    linked, tail = either.task(task), either.task("tail")
    with either.gate(unique) as gate:
        results = [
            linked.apply_async((unique,), {"gate": gate}, link=tail.s(f"{unique}-{n}"))
            for n in range(4)
        ]
    assert len({result.id for result in results}) == 4
    assert {value_of(result.get(timeout=TIMEOUT)) for result in results} == {unique}
    for n in range(4):
        wait_until(lambda n=n: either.runs("tail", f"{unique}-{n}") == 1)
    assert either.runs(task, unique) == 1


def test_error_links_of_every_call_are_called(either: Project, unique: str) -> None:
    fails, caught = either.task("fails"), either.task("caught")
    with either.gate(unique) as gate:
        kwargs = {"gate": gate}
        results = [fails.apply_async((unique,), kwargs, link_error=caught.s()) for _ in range(3)]
    for result in results:
        with pytest.raises(Exception, match=f"cannot do {unique}"):
            result.get(timeout=TIMEOUT)
    wait_until(lambda: either.runs("caught", f"cannot do {unique}") == 3)
    assert either.runs("fails", unique) == 1


def test_a_starmap_over_duplicates(either: Project) -> None:
    add = either.task("add")
    before = len(either.notes.read("add"))
    result = add.starmap([(3, 4), (5, 6), (3, 4), (3, 4), (5, 6)]).apply_async()
    assert result.get(timeout=TIMEOUT) == [7, 11, 7, 7, 11]
    assert len(either.notes.read("add")) - before == 2


def test_a_starmap_without_herd_avoidance(start_project: Callable[..., Project]) -> None:
    # As Celery does it, where nothing was asked for.
    add = {"herd_avoidance_timeout": 0, "on_broker_error": "fail"}
    project = start_project(jobtastic_policy={"tasks": {"reports.add": add}})
    project.worker(concurrency=1)
    task = project.task("add")
    assert task.starmap([(3, 4), (3, 4)]).apply_async().get(timeout=TIMEOUT) == [7, 7]
    assert task.chunks([(3, 4), (3, 4)], 2).apply_async().get(timeout=TIMEOUT) == [[7, 7]]
    assert len(project.notes.read("add")) == 4
