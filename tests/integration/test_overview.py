"""`progress_of`: groups, chains and chords that a real worker runs, and what a poll costs."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import redis
from celery import chain, group
from celery.result import GroupResult

import jobtastic_ext
from jobtastic_ext import Overview
from jobtastic_ext.errors import ResultsUnavailable
from jobtastic_ext.runtime import runtime_of
from tests.integration.conftest import wait_until
from tests.integration.steps import Steps, start_steps, steps
from tests.servers import SilentServer, closed_port

BOUNDED = True

__all__ = ("start_steps", "steps")

TIMEOUT = 30


def let_go(result: Any) -> None:
    """End the subscriptions that a GroupResult makes, while the server is there to hear it."""
    while result is not None:
        for child in getattr(result, "results", None) or ():
            let_go(child)
        if not isinstance(result, GroupResult) and hasattr(result.backend, "result_consumer"):
            result.backend.remove_pending_result(result)
        result = result.parent


def polled(result: Any) -> list[Overview]:
    """Poll until all has ended; return what was seen."""
    seen: list[Overview] = []

    def over() -> bool:
        seen.append(jobtastic_ext.progress_of(result))
        return seen[-1].completed == seen[-1].total

    wait_until(over, TIMEOUT)
    let_go(result)
    return seen


def check(seen: list[Overview], total: int) -> None:
    percents = [each.progress_percent for each in seen]
    assert percents == sorted(percents)
    assert percents[0] < 20
    assert percents[-1] == 100
    assert len({round(p) for p in percents}) > 5
    assert {each.total for each in seen} == {total}
    assert seen[-1].time_remaining == 0
    assert seen[-1].completed == total


@contextmanager
def commands(url: str) -> Iterator[list[str]]:
    """Collect what the server is asked to give meanwhile, by its own account."""
    heard: list[str] = []
    ready = threading.Event()
    with redis.Redis.from_url(url) as client, client.monitor() as monitor:
        mark = f"end-{time.monotonic_ns()}"

        def listen() -> None:
            ready.set()
            for command in monitor.listen():
                if mark in command["command"]:
                    return
                if command["db"] == 0:
                    continue  # a worker beside looks after its queues
                if command["command"].split()[0].endswith(("GET", "EVAL", "EVALSHA")):
                    heard.append(command["command"])

        thread = threading.Thread(target=listen, daemon=True)
        thread.start()
        ready.wait(5)
        time.sleep(0.1)
        yield heard
        with redis.Redis.from_url(url) as other:
            other.echo(mark)
        thread.join(5)


def test_a_group(steps: Steps, unique: str) -> None:
    result = group(steps.task("plain").s(40 + n, 0.02) for n in range(6))()
    seen = polled(result)
    check(seen, 6)
    assert any(each.time_remaining > 0 for each in seen)


def test_a_chain(steps: Steps, unique: str) -> None:
    last = steps.task("last")
    seen = polled(chain(last.s([1], 0.6), last.si([1, 2], 0.6), last.si(unique, 0.6))())
    percents = [each.progress_percent for each in seen]
    assert percents == sorted(percents)
    assert seen[-1].total == 3
    assert percents[-1] == 100
    assert len({each.completed for each in seen}) == 4


def test_a_chord_and_a_chain_around_it(steps: Steps, unique: str) -> None:
    last, plain = steps.task("last"), steps.task("plain")
    result = chain(last.si(unique, 0.3), group(plain.si(30, 0.02) for _ in range(4)), last.s(0.5))()
    seen = polled(result)
    assert seen[-1].total == 6
    percents = [each.progress_percent for each in seen]
    assert percents == sorted(percents)
    assert percents[-1] == 100


def test_a_single_task(steps: Steps, unique: str) -> None:
    seen = polled(steps.task("count").delay(60, 0.02))
    assert seen[-1].total == 1
    percents = [each.progress_percent for each in seen]
    assert percents == sorted(percents)
    assert len(set(percents)) > 3


def test_failures_count_as_ended(steps: Steps, unique: str) -> None:
    result = group(steps.task("fails").s(f"{unique}-{n}", 0.1) for n in range(3))()
    seen = polled(result)
    assert (seen[-1].completed, seen[-1].failed) == (3, 3)


def test_a_task_weighs_as_much_as_its_past_runs_took(steps: Steps, unique: str) -> None:
    last, silent = steps.task("last"), steps.task("silent")
    for n in range(3):
        last.delay([unique, n], 0.2).get(timeout=TIMEOUT)
        silent.delay(2, f"{unique}{n}").get(timeout=TIMEOUT)
    time.sleep(1.1)
    result = chain(last.si([unique], 0.2), silent.si(2, unique))()
    wait_until(lambda: result.parent.state == "SUCCESS")
    seen = jobtastic_ext.progress_of(result)
    assert seen.completed == 1
    # A tenth of the work, though one of two tasks.
    assert seen.progress_percent < 40
    assert 0.5 < seen.time_remaining < 6
    result.get(timeout=TIMEOUT)


def test_a_group_that_another_process_restored(steps: Steps, unique: str) -> None:
    result = group(steps.task("plain").s(40 + n, 0.02) for n in range(3))()
    result.save()
    restored = GroupResult.restore(result.id, app=steps.app)
    check(polled(restored), 3)
    let_go(result)


def test_one_question_however_many_tasks(steps: Steps) -> None:
    app = steps.app
    backend = app.backend
    result = GroupResult(
        f"g-{time.monotonic_ns()}", [app.AsyncResult(f"{time.monotonic_ns()}") for _ in range(500)]
    )
    for n, child in enumerate(result.results):
        child.jobtastic_task = "steps.count"
        if n % 2:
            backend.store_result(child.id, n, "SUCCESS")
    runtime = runtime_of(app)
    assert runtime is not None
    runtime.histories._known().histories.clear()
    with commands(steps.conf["result_backend"]) as heard:
        seen = jobtastic_ext.progress_of(result)
    assert (seen.completed, seen.total) == (250, 500)
    assert len(heard) == 2, heard  # the states, and the history of the one task
    with commands(steps.conf["result_backend"]) as heard:
        jobtastic_ext.progress_of(result)
    assert len(heard) == 1, heard
    let_go(result)
    assert heard[0].count("celery-task-meta-") == 250  # what has ended is not asked again


def test_a_backend_without_many_at_once(start_steps: Any, tmp_path: Any) -> None:
    steps: Steps = start_steps(result_backend=f"file://{tmp_path}")
    steps.worker(concurrency=2)
    check(polled(group(steps.task("count").s(40 + n, 0.02) for n in range(3))()), 3)


@pytest.mark.parametrize("kind", ["refused", "silent"])
def test_a_backend_that_is_down_is_an_error_in_bounded_time(start_steps: Any, kind: str) -> None:
    with SilentServer() as silent:
        port = closed_port() if kind == "refused" else silent.port
        steps: Steps = start_steps(result_backend=f"redis://127.0.0.1:{port}/0")
        # Not a GroupResult: Celery subscribes to its parts when it is made, and tries for ever.
        result = steps.app.AsyncResult("a")
        waits = []
        for _ in range(6):
            began = time.monotonic()
            with pytest.raises(ResultsUnavailable):
                jobtastic_ext.progress_of(result)
            waits.append(time.monotonic() - began)
        assert max(waits) < 10, "bounded, whatever the machine is doing"
        assert min(waits[1:]) < 0.2, "it is asked again though it is known to be down"
