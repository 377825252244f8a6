"""Broker, result backend or store refuse, stay silent or answer late: the caller gets an answer.

Measured on bare Celery 5.7: a silent Redis broker holds a caller for 90 s and more, `retry=False`
or not; a silent result backend for 150 s, because `apply_async` subscribes to it.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from celery.result import EagerResult
from kombu.exceptions import EncodeError, OperationalError

from jobtastic_ext.runtime import runtime_of
from jobtastic_ext.signals import broker_failed
from tests.integration.conftest import POLICY, Project, wait_until
from tests.servers import Proxy

BOUNDED = True

TIMEOUT = 30

#: Of `jobtastic_publish_timeout`, and room for a busy machine: to wait for Celery's own time-outs
#: would take longer still.
DEADLINE = 1.0
ROOM = 5.0

MODES = {
    "tasks": {
        **POLICY["tasks"],
        "reports.work": {"significant_kwargs": ["x"], "on_broker_error": "eager"},
        "reports.based": {"on_broker_error": "fail"},
    }
}


@pytest.fixture
def proxies(redis_server: Any) -> Iterator[dict[str, Proxy]]:
    with ExitStack() as stack:
        yield {
            name: stack.enter_context(Proxy(redis_server.port))
            for name in ("broker", "backend", "store")
        }


@pytest.fixture
def project(start_project: Any, proxies: dict[str, Proxy]) -> Project:
    return start(start_project, proxies)


def start(start_project: Any, proxies: dict[str, Proxy], **settings: Any) -> Project:
    started: Project = start_project(
        broker_url=proxies["broker"].url(0),
        result_backend=proxies["backend"].url(1),
        jobtastic_store=proxies["store"].url(2),
        jobtastic_policy=MODES,
        **settings,
    )
    return started


def timed(call: Any) -> tuple[float, Any]:
    began = time.monotonic()
    result = call()
    return time.monotonic() - began, result


def upset(proxy: Proxy, kind: str) -> None:
    if kind == "refused":
        proxy.refuse()
    elif kind == "silent":
        proxy.be_silent()
    else:
        proxy.be_slow(5)


@pytest.mark.parametrize("kind", ["refused", "silent", "slow"])
@pytest.mark.parametrize(
    "down",
    ["broker", "backend", "store", "broker backend", "broker store", "broker backend store"],
)
def test_an_outage(
    project: Project, proxies: dict[str, Proxy], unique: str, down: str, kind: str
) -> None:
    eager, fail = project.task("work"), project.task("based")
    kwargs = {"delay": 0}
    # Connections are open, and the outage of the test before is over.
    wait_until(lambda: fail.delay(f"{unique}-{time.time()}", **kwargs).state == "PENDING")
    for name in down.split():
        upset(proxies[name], kind)
    served: dict[str, Any] = {}
    for mode, task in {"eager": eager, "fail": fail}.items():
        wait, result = timed(lambda task=task: task.delay(f"{unique}-first", **kwargs))
        assert wait < DEADLINE + ROOM
        check(mode, result, down, unique)
        served[mode] = result
    waits = []
    for n in range(40):
        for mode, task in {"eager": eager, "fail": fail}.items():
            wait, result = timed(lambda task=task, n=n: task.delay(f"{unique}-{n}", **kwargs))
            check(mode, result, down, unique)
            waits.append(wait)
    assert sorted(waits)[len(waits) // 4] < DEADLINE / 2, waits  # most do not time out

    for name in down.split():
        proxies[name].open()
    if "broker" in down:
        results = runtime_of(project.app).results  # type: ignore[union-attr]
        wait_until(lambda: not results.breaker.is_open)
        # Who polls the id sees how it ended, as soon as the backend is there.
        for mode, state in {"eager": "SUCCESS", "fail": "FAILURE"}.items():
            task_id = served[mode].id
            meta = wait_until(
                lambda task_id=task_id: (
                    project.app.AsyncResult(task_id).state != "PENDING"
                    and project.app.backend.get_task_meta(task_id, cache=False)
                )
            )
            assert meta["status"] == state
    wait_until(
        lambda: (
            not isinstance(again := eager.delay(f"{unique}-{time.time()}"), EagerResult)
            and again.state == "PENDING"
        ),
        why="calls are published again",
    )


def check(mode: str, result: Any, down: str, unique: str) -> None:
    """What docs/outages.md says."""
    if "broker" not in down:
        assert not isinstance(result, EagerResult)
        assert result._cache is None  # published; nobody knows its outcome
    elif mode == "eager":
        assert isinstance(result, EagerResult)
        assert result.get()["x"].startswith(unique)
    else:
        assert result.state == "FAILURE"
        assert isinstance(result.result, OperationalError)
        assert "OperationalError" in result.traceback
        with pytest.raises(OperationalError):
            result.get(timeout=TIMEOUT)


def is_sent(task: Any, x: str) -> bool:
    """Whether the broker took a call in time, as it may not on a busy machine."""
    try:
        return bool(task.delay(x).state == "PENDING")
    except OperationalError:
        return False


@pytest.mark.parametrize("kind", ["refused", "silent", "slow"])
def test_raise_raises_within_a_deadline_that_was_set(
    start_project: Any, proxies: dict[str, Proxy], unique: str, kind: str
) -> None:
    project = start(start_project, proxies, jobtastic_publish_timeout=1.0)
    task = project.task("shared")
    wait_until(lambda: is_sent(task, f"{unique}-{time.time()}"))
    upset(proxies["broker"], kind)

    def call() -> None:
        with pytest.raises(OperationalError):
            task.delay(unique)

    assert timed(call)[0] < DEADLINE + ROOM
    assert sorted(timed(call)[0] for _ in range(20))[5] < DEADLINE / 2
    # Who polls the id that was handed to nobody but those who joined is told as well.
    key = runtime_of(project.app).plan(task).key((unique,), {})  # type: ignore[union-attr]
    marks = runtime_of(project.app).store.read(key).tombstones  # type: ignore[union-attr]
    ids = [mark.partition(":")[2] for mark in marks]
    assert ids
    wait_until(lambda: project.app.AsyncResult(ids[0]).state == "FAILURE")


def test_one_warning_one_line_and_a_signal_for_each_call(
    project: Project, proxies: dict[str, Proxy], unique: str, caplog: pytest.LogCaptureFixture
) -> None:
    heard: list[dict[str, Any]] = []

    def hear(sender: Any, **words: Any) -> None:
        heard.append({"sender": sender, **words})
        raise RuntimeError("a handler that raises changes nothing")

    task = project.task("based")
    task.delay(f"{unique}-warm")
    broker_failed.connect(hear)
    try:
        with caplog.at_level(logging.INFO, logger="jobtastic_ext"):
            proxies["broker"].refuse()
            results = [task.delay(f"{unique}-{n}") for n in range(30)]
            proxies["broker"].open()
            wait_until(lambda: task.delay(f"{unique}-again").state == "PENDING")
    finally:
        broker_failed.disconnect(hear)
    levels = [
        record.levelname
        for record in caplog.records
        if record.getMessage().startswith("the broker")
    ]
    assert levels == ["WARNING", "INFO"]
    assert [words["task_id"] for words in heard[:30]] == [result.id for result in results]
    assert heard[0]["sender"].name == task.name
    assert heard[0]["key"]
    assert isinstance(heard[0]["exception"], OperationalError)


def test_wrong_arguments_are_no_broker_error(project: Project, unique: str) -> None:
    # kombu wraps what the serializer raises, an OSError as well, in EncodeError.
    with pytest.raises(EncodeError):
        project.task("plain").delay_or_eager(object())
    with pytest.raises(TypeError):
        project.task("based").delay_or_fail()
    assert not runtime_of(project.app).broker.circuit.is_open  # type: ignore[union-attr]


def test_the_helpers_on_a_task_without_a_policy(
    project: Project, proxies: dict[str, Proxy], unique: str
) -> None:
    plain = project.task("plain")
    assert plain.delay_or_eager(unique).state == "PENDING"
    proxies["broker"].refuse()
    eager = plain.async_or_eager(args=(unique,), kwargs={"delay": 0}, task_id=f"{unique}-eager")
    assert isinstance(eager, EagerResult)
    assert eager.get() == unique
    assert project.app.AsyncResult(eager.id).get(timeout=TIMEOUT) == unique
    failed = plain.async_or_fail(args=(unique,), task_id=f"{unique}-fail")
    assert failed.id == f"{unique}-fail"
    assert failed.state == "FAILURE"
    wait_until(lambda: project.app.AsyncResult(failed.id).state == "FAILURE")
    assert plain.delay_or_fail(unique).failed()
    assert project.runs("plain", unique) == 1


def test_a_cached_result_is_served_while_the_broker_is_down(
    project: Project, proxies: dict[str, Proxy], unique: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The broker takes the whole deadline.  An outcome that is not stored in what is left is not
    # kept, and on a busy machine it would not be.
    monkeypatch.setattr("jobtastic_ext.caller.eager.LEAST_WAIT", TIMEOUT)
    cached = project.task("cached")
    proxies["broker"].refuse()
    first = cached.delay_or_eager(unique, delay=0)
    assert isinstance(first, EagerResult)
    again = cached.delay_or_eager(unique, delay=0)
    assert again.id == first.id
    assert again.get(timeout=TIMEOUT) == first.get()
    assert cached.delay(unique).get(timeout=TIMEOUT) == first.get()
    assert project.runs("cached", unique) == 1


def test_a_part_of_a_canvas_raises(
    project: Project, proxies: dict[str, Proxy], unique: str
) -> None:
    proxies["broker"].refuse()
    eager = project.task("work")
    with pytest.raises(OperationalError):
        (eager.s(unique) | project.task("tail").s("end")).apply_async()
    assert project.runs("work", unique) == 0


def test_a_failing_task_fails_here_as_it_would_there(
    project: Project, proxies: dict[str, Proxy], unique: str
) -> None:
    proxies["broker"].refuse()
    fails = project.task("fails")
    result = fails.delay_or_eager(unique)
    assert result.state == "FAILURE"
    wait_until(lambda: project.app.AsyncResult(result.id).state == "FAILURE")
    assert fails.delay_or_eager(unique).id != result.id  # not cached
    assert project.runs("fails", unique) == 2


def test_under_gevent_the_others_go_on(project: Project, proxies: dict[str, Proxy]) -> None:
    proxies["broker"].be_silent()
    environ = {**os.environ, "JOBTASTIC_TEST_CONF": json.dumps(project.conf)}
    command = [sys.executable, "-W", "ignore", "-m", "tests.integration.silent_gevent"]
    done = subprocess.run(
        command, env=environ, capture_output=True, text=True, timeout=60, check=True
    )
    seen = json.loads(done.stdout)
    assert seen["state"] == "FAILURE"
    assert seen["took"] < DEADLINE + ROOM
    assert seen["ticks"] >= 5


def test_within_an_event_loop(project: Project, proxies: dict[str, Proxy], unique: str) -> None:
    proxies["broker"].be_silent()

    async def page() -> tuple[float, Any]:
        return timed(lambda: project.task("work").delay_or_fail(unique))

    wait, result = asyncio.run(page())
    assert result.state == "FAILURE"
    assert wait < DEADLINE + ROOM


@pytest.mark.parametrize("down", ["broker", "broker backend", "broker backend store"])
@pytest.mark.parametrize("kind", ["refused", "silent"])
def test_in_a_forked_child(
    project: Project, proxies: dict[str, Proxy], unique: str, down: str, kind: str
) -> None:
    # The parent's open connections, and its threads that probe, are not the child's.
    work = project.task("based")
    wait_until(lambda: work.delay(f"{unique}-{time.time()}").state == "PENDING")
    for name in down.split():
        upset(proxies[name], kind)
    assert work.delay(f"{unique}-down").state == "FAILURE"
    for name in down.split():
        proxies[name].open()
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        try:
            wait_until(lambda: work.delay(f"{unique}-{time.time()}").state == "PENDING")
            os.write(writer, b"published")
        except BaseException:  # noqa: BLE001 - it cannot be seen otherwise
            os.write(writer, traceback.format_exc()[-4000:].encode())
        finally:
            os._exit(0)
    os.close(writer)
    os.waitpid(child, 0)
    assert os.read(reader, 5000).decode() == "published"
    os.close(reader)
    wait_until(lambda: work.delay(f"{unique}-{time.time()}").state == "PENDING")


def test_a_run_here_shows_its_progress_to_those_who_joined(
    project: Project, proxies: dict[str, Proxy]
) -> None:
    proxies["broker"].refuse()
    progress = project.task("progress")
    call = lambda: progress.delay_or_eager(30, pause=0.1)  # noqa: E731
    thread = threading.Thread(target=call)
    thread.start()
    wait_until(lambda: project.claim("progress", 30, pause=0.1))
    joined = wait_until(lambda: not isinstance(found := call(), EagerResult) and found)
    meta = wait_until(lambda: joined.state == "PROGRESS" and joined.info)
    assert 0 <= meta["progress_percent"] <= 100
    thread.join(TIMEOUT)
    wait_until(lambda: project.app.AsyncResult(joined.id).state == "SUCCESS")
