"""Identical calls made at once share one run.

jobtastic checks, then locks, and does not check again: of 400 simultaneous calls it queued 37 to
400.  Here the check and the claim are one atomic operation of the store.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.integration.callers import Callers
from tests.integration.conftest import Project
from tests.thorough import CI

PROCESSES, THREADS, ROUNDS = 4, 25, 20 if CI else 5


@pytest.fixture(params=["redis", "sqlite"])
def either(request: pytest.FixtureRequest, start_project: Callable[..., Project]) -> Project:
    """With a lease that a worker beside so many threads does not miss on a busy machine."""
    project = start_project(request.param, jobtastic_lease=30)
    project.worker()
    return project


def test_a_hundred_simultaneous_calls_make_one_run(either: Project) -> None:
    # 100 threads on a machine that does other things, too: to wait long for the store is no outage.
    conf = {**either.conf, "jobtastic_store_timeout": 10}
    with Callers(conf, PROCESSES, THREADS) as callers:
        for number in range(ROUNDS):
            # Cached, for a process that is so late that the run has ended.
            answers = callers.call("reports.cached", f"herd-{number}")
            assert len(answers) == PROCESSES * THREADS
            assert len({task_id for task_id, _ in answers}) == 1, f"round {number}"
            assert {got["x"] for _, got in answers} == {f"herd-{number}"}
            assert len({got["at"] for _, got in answers}) == 1
            assert either.runs("cached", f"herd-{number}") == 1
