"""A worker that does not reach its store, its result backend or both, which the pages' server does.

Its reports stop although it runs on, and its lease lapses: nobody can tell that from its death.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from jobtastic_ext import progress_of
from jobtastic_ext.progress.run_progress import QUIET
from tests.integration.conftest import POLICY, Project, wait_until
from tests.servers import Proxy
from tests.web.test_status import status
from tests.workers import Worker

BOUNDED = True

#: A busy machine needs so long to claim what runs; a page waits longer where it may take long.
IN_TIME = {"jobtastic_store_timeout": 2, "jobtastic_publish_timeout": 10}


class CutOff:
    """A project whose worker alone has a proxy before its store and its result backend."""

    def __init__(self, project: Project, port: int, stack: ExitStack) -> None:
        self.project = project
        self.store, self.results = (stack.enter_context(Proxy(port)) for _ in range(2))
        there = {"jobtastic_store": self.store.url(2), "result_backend": self.results.url(1)}
        self.worker = stack.enter_context(Worker({**project.conf, **there}, concurrency=2))

    def start(self, steps: int, gate: str | None = None) -> Any:
        """Start a run of some twentieths of a second, and wait until it has told how far it is.

        Once its gate is open, it does the rest without a pause.
        """
        arguments = {"pause": 0.05, "gate": gate}
        result = self.project.task("progress").delay(steps, **arguments)
        wait_for_report(self.project, result.id)
        claim = self.project.claim("progress", steps, **arguments)
        assert claim is not None, "the store was late, and the run has no lease that could lapse"
        assert claim.run_of(result.id) is not None
        return result

    def silence(self, *proxies: Proxy) -> None:
        for proxy in proxies:
            proxy.be_silent()

    def is_lost(self, task_id: str) -> bool:
        return "lost" in status(self.project, task_id)

    def seen_until_it_ends(self, task_id: str) -> list[dict[str, Any]]:
        """Ask on and on, and return all that was told."""
        seen: list[dict[str, Any]] = []

        def ended() -> bool:
            seen.append(status(self.project, task_id))
            return seen[-1]["status"] not in ("PROGRESS", "FAILURE")

        wait_until(ended)
        return seen


def wait_for_report(project: Project, task_id: str) -> None:
    """Wait until a run has told how far it is."""
    wait_until(lambda: "total" in (status(project, task_id)["result"] or {}))


def elapsed_of(cut_off: CutOff, result: Any) -> float:
    return float(status(cut_off.project, result.id)["result"]["elapsed"])


@pytest.fixture
def cut_off(start_project: Callable[..., Project], redis_server: Any) -> Iterator[CutOff]:
    with ExitStack() as stack:
        yield CutOff(start_project(**IN_TIME), redis_server.port, stack)


def test_who_reports_is_not_lost(cut_off: CutOff) -> None:
    """The store alone is out of its reach."""
    result = cut_off.start(steps=240)
    cut_off.silence(cut_off.store)
    seen = cut_off.seen_until_it_ends(result.id)
    assert "the store of claims does not answer" in cut_off.worker.output()
    assert seen[-1]["result"] == 240
    assert {task["status"] for task in seen[:-1]} == {"PROGRESS"}
    assert not any("unconfirmed" in task for task in seen)


def test_who_is_alive_and_does_not_report_is_not_confirmed(cut_off: CutOff, unique: str) -> None:
    """The result backend alone is out of its reach: what it reported last is old, and says so."""
    result = cut_off.start(steps=2_000, gate=unique)
    cut_off.silence(cut_off.results)
    cut = time.monotonic()
    wait_until(lambda: "unconfirmed" in status(cut_off.project, result.id))
    told = status(cut_off.project, result.id)
    assert time.monotonic() - cut > QUIET
    assert told["status"] == "PROGRESS"
    assert told["unconfirmed"] is True
    assert "lost" not in told
    cut_off.results.open()
    # What was held up on its way comes first, and is as old.
    wait_until(lambda: elapsed_of(cut_off, result) > told["result"]["elapsed"] + QUIET)
    cut_off.project.notes.open(unique)
    seen = cut_off.seen_until_it_ends(result.id)
    assert not any("unconfirmed" in task for task in seen)


def test_what_is_heard_of_again_is_taken_back(cut_off: CutOff, unique: str) -> None:
    """Of two runs, one ends meanwhile."""
    began = time.time()
    ends = cut_off.start(steps=999, gate=f"{unique}-ends")
    result = cut_off.start(steps=1_000, gate=unique)
    cut_off.silence(cut_off.store, cut_off.results)
    cut = time.time()
    cut_off.project.notes.open(f"{unique}-ends")
    for one in (ends, result):
        wait_until(lambda one=one: cut_off.is_lost(one.id))
    lost = status(cut_off.project, result.id)
    # True of a worker that is dead as well as of this one.
    assert lost["result"].startswith("Nothing has been heard of this task since ")
    assert began < lost["heard"] < cut + 2
    percent = progress_of(result).progress_percent
    cut_off.store.open()
    cut_off.results.open()
    wait_until(lambda: not cut_off.is_lost(result.id))
    assert status(cut_off.project, result.id)["status"] == "PROGRESS"
    wait_until(lambda: progress_of(result).progress_percent > percent)
    cut_off.project.notes.open(unique)
    for one in (ends, result):
        wait_until(lambda one=one: status(cut_off.project, one.id)["status"] == "SUCCESS")
    assert progress_of(ends).progress_percent == 100
    assert cut_off.project.runs("progress", 1_000) <= 1


def test_what_has_no_lease_is_not_confirmed_either(
    start_project: Callable[..., Project], unique: str
) -> None:
    """A killed worker's run without a policy: nobody can tell that it is lost."""
    others = {name: each for name, each in POLICY["tasks"].items() if name != "reports.progress"}
    project = start_project(jobtastic_policy={"tasks": others})
    worker = project.worker(concurrency=1)
    result = project.task("progress").delay(1_000, gate=unique)
    wait_for_report(project, result.id)
    worker.kill()
    wait_until(lambda: "unconfirmed" in status(project, result.id))
    assert status(project, result.id)["status"] == "PROGRESS"
