"""Identical calls made at once share one run.

jobtastic checks, then locks, and does not check again: of 400 simultaneous calls it queued 37 to
400.  Here the check and the claim are one atomic operation of the store.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from tests.integration.conftest import Project
from tests.workers import ROOT

PROCESSES, THREADS, ROUNDS = 4, 25, 20


@pytest.fixture(params=["redis", "sqlite"])
def either(request: pytest.FixtureRequest, start_project: Callable[..., Project]) -> Project:
    """With a lease that a worker beside so many threads does not miss on a busy machine."""
    project = start_project(request.param, jobtastic_lease=30)
    project.worker()
    return project


def test_two_thousand_simultaneous_calls_make_twenty_runs(either: Project) -> None:
    command = [sys.executable, "-m", "tests.integration.herd"]
    # 200 threads on a machine that does other things, too: to wait long for the store is no outage.
    conf = {**either.conf, "jobtastic_store_timeout": 10}
    setup = json.dumps({"conf": conf, "threads": THREADS})
    callers = [
        subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(PROCESSES)
    ]
    try:
        for caller in callers:
            say(caller, setup)
        for caller in callers:
            assert caller.stdout is not None
            assert caller.stdout.readline() == "ready\n"
        for number in range(ROUNDS):
            # Cached, for a process that is so late that the run has ended.
            order = json.dumps({"task": "reports.cached", "args": [f"herd-{number}"]})
            for caller in callers:
                say(caller, order)
            answers = [answer for caller in callers for answer in listen(caller)]
            assert len(answers) == PROCESSES * THREADS
            assert len({task_id for task_id, _ in answers}) == 1, f"round {number}"
            assert {got["x"] for _, got in answers} == {f"herd-{number}"}
            assert len({got["at"] for _, got in answers}) == 1
            assert either.runs("cached", f"herd-{number}") == 1
    finally:
        for caller in callers:
            caller.kill()
            caller.communicate()


def say(caller: subprocess.Popen[str], line: str) -> None:
    assert caller.stdin is not None
    caller.stdin.write(line + "\n")
    caller.stdin.flush()


def listen(caller: subprocess.Popen[str]) -> list[Any]:
    assert caller.stdout is not None
    line = caller.stdout.readline()
    assert line, "a caller died"
    return list(json.loads(line))
