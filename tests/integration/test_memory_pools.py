"""What follows a report, and what can be said where tasks share a process."""

from __future__ import annotations

import re
from collections import Counter
from itertools import pairwise
from typing import Any

import pytest

from tests.integration.conftest import wait_until
from tests.integration.test_memory import POLICY, Watched

#: Every tenth grows, and is the last of its process.
RUNS = 120


@pytest.mark.parametrize("name", ["recycled", "recycled_late"])
def test_a_child_is_replaced_and_no_task_is_lost(start_project: Any, name: str) -> None:
    """billiard may have sent the child its next job already: that one must run elsewhere.

    With late acknowledgement a task lost with its child would run twice, without it never.
    """
    watched = Watched(start_project(jobtastic_policy=POLICY), concurrency=4)
    results = [watched.run(name, n, 25 if n % 10 == 0 else 0) for n in range(RUNS)]
    assert [result.get(timeout=90) for result in results] == list(range(RUNS))
    notes = watched.project.notes.read(name)
    assert Counter(note["x"] for note in notes) == dict.fromkeys(range(RUNS), 1)
    last = {note["pid"]: note["x"] for note in notes}
    assert sum(x % 10 == 0 for x in last.values()) == RUNS // 10  # the last run of its process
    output = watched.worker.output()
    assert output.count("is replaced after this run (memleak_action: recycle)") == RUNS // 10
    assert "WorkerLostError" not in output
    assert [line for line in output.splitlines() if "exited with" in line] == []
    gone = {note["pid"] for note in notes if note["x"] % 10 == 0}
    wait_until(lambda: len({*watched.worker.children()} - gone) == 4)
    told = watched.told()[f"leaky.{name}"]
    assert (told["runs"], told["reports"]) == (RUNS, RUNS // 10)  # those of dead children are kept


def test_a_child_is_replaced_after_a_trend_too(start_project: Any) -> None:
    watched = Watched(start_project(jobtastic_policy=POLICY), concurrency=1)
    [first] = watched.worker.children()
    results = [watched.run("recycled", n, 1.5) for n in range(150)]
    assert [result.get(timeout=60) for result in results] == list(range(150))
    per_run = re.findall(r"leaky.recycled leaks: about ([\d.]+) MB a run", watched.worker.output())
    assert per_run
    assert [float(mb) for mb in per_run] == pytest.approx([1.5] * len(per_run), rel=0.2)
    wait_until(lambda: watched.worker.children() not in ([first], []))


@pytest.mark.parametrize("pool", ["threads", "gevent", "solo"])
def test_where_tasks_share_a_process_the_line_says_so(
    start_project: Any, unique: str, pool: str
) -> None:
    watched = Watched(
        start_project(jobtastic_policy=POLICY), pool=pool, concurrency=1 if pool == "solo" else 4
    )
    assert ("`memleak_action: recycle` needs the prefork pool") in watched.worker.output()
    others = [] if pool == "solo" else [watched.run("other", n, 2.0) for n in range(2)]
    grown = watched.run("keeps", unique, 40)
    grown.get(timeout=30)
    [line] = wait_until(lambda: watched.lines(grown.id))
    beside = "and at the same time ran leaky.other" if others else "with the worker"
    assert f"tasks share this process ({pool} pool)" in line["rest"]
    assert beside in line["rest"]
    for other in others:
        other.get(timeout=30)


def test_a_trend_in_a_shared_process_names_all_that_ran(start_project: Any) -> None:
    watched = Watched(start_project(jobtastic_policy=POLICY), pool="threads", concurrency=2)
    results = [watched.run("keeps" if n % 2 else "traced", n, n % 2) for n in range(280)]
    for result in results:
        result.get(timeout=60)
    wait_until(lambda: "leaks: about" in watched.worker.output())
    lines = [line for line in watched.worker.output().splitlines() if "leaks: about" in line]
    assert all("one of leaky.keeps, leaky.traced leaks: about 0.5" in line for line in lines)
    assert "shared_process" in watched.told()["leaky.keeps"]


def test_growth_is_told_once_and_again_when_it_has_doubled(start_project: Any) -> None:
    watched = Watched(start_project(jobtastic_policy=POLICY), concurrency=1)
    results = [watched.run("keeps", n, 0.2) for n in range(210)]
    for result in results:
        result.get(timeout=60)
    told = [x for x in watched.project.notes.read(event="signal") if x["kind"] == "trend"]
    assert told
    assert told[0]["per_run"] == pytest.approx(0.2, rel=0.2)
    assert all(after["growth"] >= 1.9 * before["growth"] for before, after in pairwise(told))
