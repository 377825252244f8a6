"""The checker of chaos finds what it is there for, in histories made by hand."""

from __future__ import annotations

from typing import Any

import pytest

from .check import History

LEASE = 3


def run(task_id: str, start: float, end: float | None, pid: int = 1, key: int = 7) -> list[Any]:
    mark = {"id": task_id, "pid": pid, "key": key, "task": "chaos.late"}
    lines: list[Any] = [{"event": "start", "at": start, "seconds": 1.0, **mark}]
    return lines if end is None else [*lines, {"event": "finish", "at": end, **mark}]


def harm(name: str, what: str, began: float, ended: float, pids: tuple[int, ...] = ()) -> Any:
    return {
        "event": "harm", "at": ended, "name": name, "what": what, "began": began, "ended": ended,
        "pids": list(pids),
    }  # fmt: skip


def call(at: float = 0, task: str = "chaos.late", **more: Any) -> Any:
    return {"event": "call", "at": at, "task": task, "key": 7, "ids": ["a"], "error": None, **more}


TWICE = [call(), *run("a", 10, 20), *run("b", 12, 13, pid=2)]


@pytest.mark.parametrize(
    ("more", "duplicates", "excused"),
    [
        ([], 1, 0),
        ([harm("flush", "lost", 11, 11.1)], 0, 1),
        ([harm("flush", "lost", 8, 8.1)], 1, 0),
        ([harm("flush", "lost", 12.5, 12.6)], 1, 0),
        ([harm("drop", "away", 8, 9.5)], 0, 1),
        ([harm("drop", "away", 4, 5)], 1, 0),
        ([harm("pause a worker", "paused", 10.2, 14, (1,))], 0, 1),
        ([harm("pause a worker", "paused", 11.9, 14, (1,))], 1, 0),
        ([harm("pause a worker", "paused", 10.2, 14, (3,))], 1, 0),
        ([harm("kill a child", "killed", 11, 11, (3,))], 1, 0),
    ],
)
def test_two_runs_at_once(more: list[Any], duplicates: int, excused: int) -> None:
    report = History([*TWICE, *more], LEASE).report()
    assert (len(report.duplicates), len(report.excused)) == (duplicates, excused)
    assert report.holds() is not bool(duplicates)


def test_a_run_ends_with_its_process() -> None:
    dead = [call(), *run("a", 10, None), *run("b", 10.5, 11, pid=2)]
    assert History(dead, LEASE).report().duplicates
    killed = harm("kill a child", "killed", 10.2, 10.2, (1,))
    assert not History([*dead, killed], LEASE).report().duplicates


def test_runs_of_two_keys_are_no_duplicates() -> None:
    lines = [call(), *run("a", 10, 20), *run("b", 12, 13, pid=2, key=8)]
    report = History(lines, LEASE).report()
    assert report.runs == 2
    assert not report.duplicates


@pytest.mark.parametrize(
    ("more", "outdated", "excused"),
    [
        ([], 1, 0),
        ([harm("pause a worker", "paused", 10.5, 14, (1,))], 0, 1),
        ([harm("pause a worker", "paused", 11.5, 14, (1,))], 1, 0),
        ([harm("pause a worker", "paused", 10.5, 14, (2,))], 1, 0),
        ([harm("flush", "lost", 10.5, 10.6)], 1, 0),
        ([harm("drop", "away", 9.8, 10.1)], 0, 1),
    ],
)
def test_an_answer_that_is_older_than_its_call(
    more: list[Any], outdated: int, excused: int
) -> None:
    lines = [call(9, ids=["a"]), call(11, ids=["b"], done=11.1), *run("a", 10, 20), *more]
    history = History(lines, LEASE)
    report = history.report()
    history.judge(report, {"a": 10, "b": 10})
    assert (len(report.outdated), len(report.excused)) == (outdated, excused)
    assert report.holds() is not bool(outdated)


def test_who_may_be_left_unserved() -> None:
    kill, flush = (
        harm("kill a worker", "killed", 5, 6, (1,)),
        harm("flush", "lost", 4, 4.1),
    )
    early, late = call(1, "chaos.early", kind="plain"), call(1, kind="plain")
    group = call(1, kind="group")
    assert History([group, kill], LEASE).explain_unserved("a", received=False)
    assert History([group, kill], LEASE).explain_unserved("a", received=True) is None
    assert History([group, flush], LEASE).explain_unserved("a", received=False) is None
    assert History([late, kill], LEASE).explain_unserved("a", received=False) is None
    assert History([late, kill, flush], LEASE).explain_unserved("a", received=False)
    assert History([late, kill, flush], LEASE).explain_unserved("a", received=True) is None
    assert History([late, flush], LEASE).explain_unserved("a", received=False) is None
    chord, child = call(1, kind="chord"), harm("kill a child", "killed", 5, 6, (1,))
    stuck = {"received": False, "unpublished": True}
    assert History([chord, child], LEASE).explain_unserved("a", **stuck)
    assert History([chord, child], LEASE).explain_unserved("a", received=False) is None
    assert History([chord, flush], LEASE).explain_unserved("a", **stuck) is None
    assert History([group, child], LEASE).explain_unserved("a", **stuck) is None
    assert History([early, kill, flush], LEASE).explain_unserved("a")
    assert History([early, kill], LEASE).explain_unserved("a") is None
    assert History([early, flush], LEASE).explain_unserved("a") is None
    assert History([late, kill, flush], LEASE).explain_unserved("a") is None
