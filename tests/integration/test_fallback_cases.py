"""Fallbacks of calls that are not plain: callbacks, own base classes, RabbitMQ, several hosts."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from celery.result import EagerResult
from kombu.exceptions import OperationalError

from tests.integration.conftest import POLICY, Project, wait_until
from tests.integration.test_brownout import DEADLINE, ROOM, timed, upset
from tests.servers import Proxy, SilentServer, closed_port

BOUNDED = True

TIMEOUT = 30

MODES = {
    "tasks": {
        **POLICY["tasks"],
        "reports.work": {"significant_kwargs": ["x"], "on_broker_error": "eager"},
        "reports.based": {"on_broker_error": "fail"},
        "reports.unbound": {"herd_avoidance_timeout": 0, "on_broker_error": "eager"},
        "reports.add": {"herd_avoidance_timeout": 0, "on_broker_error": "fail"},
    }
}


@pytest.fixture
def rabbit_proxy(rabbitmq: Any) -> Iterator[Proxy]:
    with Proxy(rabbitmq.port) as proxy:
        yield proxy


@pytest.mark.parametrize("kind", ["refused", "silent", "slow"])
def test_rabbitmq_is_down(start_project: Any, rabbit_proxy: Proxy, unique: str, kind: str) -> None:
    project: Project = start_project(
        broker_url=f"amqp://guest:guest@127.0.0.1:{rabbit_proxy.port}//", jobtastic_policy=MODES
    )
    eager, fail = project.task("work"), project.task("based")
    wait_until(lambda: fail.delay(f"{unique}-{time.time()}", delay=0).state == "PENDING")
    upset(rabbit_proxy, kind)
    waits = []
    for n in range(20):
        wait, result = timed(lambda n=n: eager.delay(f"{unique}-{n}", delay=0))
        assert isinstance(result, EagerResult)
        assert result.get()["x"] == f"{unique}-{n}"
        waits.append(wait)
        assert fail.delay(f"{unique}-{n}", delay=0).state == "FAILURE"
    assert waits[0] < DEADLINE + ROOM
    assert sorted(waits)[5] < DEADLINE / 2, waits  # most do not wait for the deadline
    rabbit_proxy.open()
    wait_until(lambda: fail.delay(f"{unique}-{time.time()}", delay=0).state == "PENDING")


def test_a_call_with_a_callback_raises_rather_than_run_here(
    start_project: Any, unique: str
) -> None:
    # Celery would send the callback by its own way: 25 s to a Redis that refuses.
    project = start_project(
        broker_url=f"redis://127.0.0.1:{closed_port()}/0", jobtastic_policy=MODES
    )
    work, tail = project.task("work"), project.task("tail")

    def call() -> None:
        with pytest.raises(OperationalError):
            work.apply_async((unique,), link=tail.s("end"))

    assert timed(call)[0] < DEADLINE + ROOM
    assert project.runs("work", unique) == 0
    failed = project.task("based").apply_async((unique,), link=tail.s("end"))
    assert failed.state == "FAILURE"


def test_the_helpers_go_by_the_apply_async_of_a_base_class(
    start_project: Any, unique: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = start_project(
        broker_url=f"redis://127.0.0.1:{closed_port()}/0", jobtastic_policy=MODES
    )
    work, seen = project.task("work"), []
    usual = work.apply_async

    def apply_async(args: Any = None, kwargs: Any = None, **options: Any) -> Any:
        seen.append(args)
        return usual(args, kwargs, **options)

    monkeypatch.setattr(work, "apply_async", apply_async)
    assert work.delay_or_fail(unique).state == "FAILURE"
    assert isinstance(work.async_or_eager(args=(unique,), kwargs={"delay": 0}), EagerResult)
    assert seen == [(unique,), (unique,)]
    # What was asked for one call is over with it.
    with pytest.raises(OperationalError):
        project.task("plain").delay(unique)


@pytest.mark.parametrize(("name", "runs"), [("unbound", 1), ("add", 1)])
def test_without_herd_avoidance_a_slow_broker_runs_nothing_twice(
    start_project: Any, redis_server: Any, unique: str, name: str, runs: int
) -> None:
    # The broker takes the message, and says so after the caller has given up.
    with Proxy(redis_server.port) as proxy:
        project = start_project(broker_url=redis_server.url(0), jobtastic_policy=MODES)
        project.worker(concurrency=2)
        caller = Project({**project.conf, "broker_url": proxy.url(0)})
        try:
            task = caller.task(name)
            arguments = (unique,) if name == "unbound" else (unique, "b")
            assert task.delay(f"{unique}-warm", *arguments[1:]).get(timeout=TIMEOUT)
            proxy.be_slow(2)
            result = task.delay(*arguments)
            # Here, if the machine was too busy to send it in time; at the worker else; never both.
            assert result.get(timeout=TIMEOUT)
            time.sleep(2)
            x = unique if name == "unbound" else [unique, "b"]
            assert project.runs(name, x) == runs
        finally:
            caller.close()


def test_of_two_brokers_the_first_stays_silent(
    start_project: Any, redis_server: Any, unique: str
) -> None:
    with SilentServer() as silent:
        project = start_project(
            broker_url=[silent.url(0), redis_server.url(0)], jobtastic_policy=MODES
        )
        work = project.task("work")
        wait_until(
            lambda: not isinstance(work.delay(f"{unique}-{time.time()}", delay=0), EagerResult)
        )
