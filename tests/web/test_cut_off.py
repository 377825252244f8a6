"""A worker that reaches neither store nor result backend, which the pages' server does reach.

Its lease lapses although it runs on, and nobody can tell that from its death.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from jobtastic_ext import progress_of
from tests.integration.conftest import Project, wait_until
from tests.servers import Proxy
from tests.web.test_status import status
from tests.workers import Worker

BOUNDED = True


class CutOff:
    """A project whose worker alone has a proxy before its store and its result backend."""

    def __init__(self, project: Project, port: int, stack: ExitStack) -> None:
        self.project = project
        self.store, self.results = (stack.enter_context(Proxy(port)) for _ in range(2))
        there = {"jobtastic_store": self.store.url(2), "result_backend": self.results.url(1)}
        self.worker = stack.enter_context(Worker({**project.conf, **there}, concurrency=1))

    def start(self, steps: int) -> Any:
        """Start a run of some twentieths of a second, and wait for its first report."""
        result = self.project.task("progress").delay(steps, pause=0.05)
        wait_until(lambda: status(self.project, result.id)["status"] == "PROGRESS")
        return result

    def silence(self, *proxies: Proxy) -> None:
        for proxy in proxies:
            proxy.be_silent()

    def is_lost(self, task_id: str) -> bool:
        return "lost" in status(self.project, task_id)


@pytest.fixture
def cut_off(start_project: Callable[..., Project], redis_server: Any) -> Iterator[CutOff]:
    with ExitStack() as stack:
        yield CutOff(start_project(), redis_server.port, stack)


def test_who_reports_is_not_lost(cut_off: CutOff) -> None:
    """The store alone is out of its reach."""
    result = cut_off.start(steps=240)
    cut_off.silence(cut_off.store)
    seen: list[dict[str, Any]] = []

    def ended() -> bool:
        seen.append(status(cut_off.project, result.id))
        return seen[-1]["status"] not in ("PROGRESS", "FAILURE")

    wait_until(ended)
    assert "the store of claims does not answer" in cut_off.worker.output()
    assert seen[-1]["result"] == 240
    assert {task["status"] for task in seen[:-1]} == {"PROGRESS"}


def test_a_page_takes_it_back_when_it_hears_again(cut_off: CutOff) -> None:
    result = cut_off.start(steps=600)
    cut_off.silence(cut_off.store, cut_off.results)
    cut = time.time()
    wait_until(lambda: cut_off.is_lost(result.id))
    lost = status(cut_off.project, result.id)
    # True of a worker that is dead as well as of this one.
    assert lost["result"].startswith("Nothing has been heard of this task since ")
    assert cut - 2 < lost["heard"] < cut + 2
    percent = progress_of(result).progress_percent
    cut_off.store.open()
    cut_off.results.open()
    wait_until(lambda: not cut_off.is_lost(result.id))
    assert status(cut_off.project, result.id)["status"] == "PROGRESS"
    wait_until(lambda: progress_of(result).progress_percent > percent)
    wait_until(lambda: status(cut_off.project, result.id)["status"] == "SUCCESS")
    assert cut_off.project.runs("progress", 600) <= 1


def test_a_run_that_ends_meanwhile_has_its_result(cut_off: CutOff) -> None:
    result = cut_off.start(steps=100)
    cut_off.silence(cut_off.store, cut_off.results)
    wait_until(lambda: cut_off.is_lost(result.id))
    cut_off.store.open()
    cut_off.results.open()
    wait_until(lambda: status(cut_off.project, result.id)["status"] == "SUCCESS")
    assert progress_of(result).progress_percent == 100
