"""Calls made before, during and after an outage: each runs once, or fails and never runs.

A publish that timed out arrives all the same once a stopped Redis goes on (seen in 6 of 6 trials),
and a warm connection to a stopped RabbitMQ takes every message as if all were well.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from celery.result import EagerResult

from jobtastic_ext.testing.server import EmbeddedServer
from tests.integration.conftest import POLICY, Project, wait_until
from tests.servers import closed_port

BOUNDED = True

TIMEOUT = 60
CALLS = 100


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def policy(mode: str) -> dict[str, Any]:
    return {"tasks": {**POLICY["tasks"], "reports.work": {"on_broker_error": mode}}}


def call_across(project: Project, pid: int, unique: str, mode: str) -> None:
    """Make the calls, a third of them while process `pid` is stopped; see what became of them."""
    work, results = project.task("work"), []

    def call(n: int) -> None:
        results.append(work.delay(f"{unique}-{n}", delay=0))

    for n in range(CALLS // 3):
        call(n)
    with stopped(pid):
        for n in range(CALLS // 3, CALLS * 2 // 3):
            call(n)
        time.sleep(1)
    back = time.monotonic()
    wait_until(lambda: is_published(work.delay(f"{unique}-again-{time.time()}", delay=0)))
    assert time.monotonic() - back < 10
    for n in range(CALLS * 2 // 3, CALLS):
        call(n)
    failed = [n for n, result in enumerate(results) if result.state == "FAILURE"]
    here = [n for n, result in enumerate(results) if isinstance(result, EagerResult)]
    assert len(failed) + len(here) >= CALLS // 4  # there was an outage
    assert not (failed if mode == "eager" else here)
    for n, result in enumerate(results):
        if n not in failed:
            assert result.get(timeout=TIMEOUT)["x"] == f"{unique}-{n}"
    time.sleep(2)  # what arrives late arrives now
    ran = Counter(line["x"] for line in project.notes.read("work"))
    wrong = {n: ran[f"{unique}-{n}"] for n in range(CALLS)}
    assert {n: count for n, count in wrong.items() if count != (n not in failed)} == {}
    for n in failed:
        polled = project.app.AsyncResult(results[n].id)
        wait_until(lambda polled=polled: polled.state == "FAILURE")


def is_published(result: Any) -> bool:
    return not isinstance(result, EagerResult) and result.state != "FAILURE"


@pytest.mark.parametrize("mode", ["eager", "fail"])
@pytest.mark.parametrize("alone", [True, False], ids=["the broker", "one server for everything"])
def test_redis(start_project: Any, unique: str, mode: str, alone: bool) -> None:
    with EmbeddedServer() as server:
        settings = {"broker_url": server.url(0), "jobtastic_policy": policy(mode)}
        if not alone:
            settings |= {"result_backend": server.url(1), "jobtastic_store": server.url(2)}
        project = start_project(**settings)
        project.worker(concurrency=2)
        call_across(project, server.pid, unique, mode)


@pytest.mark.parametrize("mode", ["eager", "fail"])
def test_rabbitmq(start_project: Any, unique: str, rabbitmq: Any, mode: str) -> None:
    project = start_project(broker_url=rabbitmq.url, jobtastic_policy=policy(mode))
    project.worker(concurrency=2)
    call_across(project, rabbitmq.pid, unique, mode)


def test_a_herd_does_not_run_here_twice(start_project: Any, unique: str) -> None:
    # 50 threads with the broker down: celery-singleton gives 49 of them an id that was never sent.
    project = start_project(
        broker_url=f"redis://127.0.0.1:{closed_port()}/0", jobtastic_policy=policy("eager")
    )
    work = project.task("work")
    barrier, results = threading.Barrier(25), []

    def call() -> None:
        barrier.wait()
        results.append(work.delay(unique, gate=unique))

    threads = [threading.Thread(target=call) for _ in range(25)]
    with project.gate(unique):
        for thread in threads:
            thread.start()
        wait_until(lambda: len(results) == 24)
    for thread in threads:
        thread.join(TIMEOUT)
    assert len(results) == 25
    assert [result.get(timeout=TIMEOUT)["x"] for result in results] == [unique] * 25
    assert len({result.id for result in results}) == 1
    assert project.runs("work", unique) == 1


def test_an_eager_run_keeps_its_lease(start_project: Any, unique: str) -> None:
    project = start_project(
        broker_url=f"redis://127.0.0.1:{closed_port()}/0",
        jobtastic_policy=policy("eager"),
        jobtastic_lease=1,
    )
    work = project.task("work")
    first: list[Any] = []
    thread = threading.Thread(target=lambda: first.append(work.delay(unique, gate=unique)))
    with project.gate(unique):
        thread.start()
        wait_until(lambda: project.runs("work", unique))
        time.sleep(2.5)
        joined = work.delay(unique, gate=unique)
    assert not isinstance(joined, EagerResult)
    thread.join(TIMEOUT)
    assert joined.id == first[0].id
    assert joined.get(timeout=TIMEOUT)["x"] == unique
    assert project.runs("work", unique) == 1
