"""What surrounds a call goes with its message, and does not change whether it is sent."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from contextvars import ContextVar
from typing import Any

import pytest
from celery.result import EagerResult
from celery.signals import before_task_publish
from kombu import Exchange, Queue
from kombu.exceptions import OperationalError

from jobtastic_ext.runtime import runtime_of
from tests.integration.conftest import POLICY, Project, wait_until
from tests.servers import Proxy, Sentinel

BOUNDED = True

TRACE: ContextVar[str] = ContextVar("trace", default="")

EAGER = {"tasks": {**POLICY["tasks"], "reports.work": {"on_broker_error": "eager"}}}


@pytest.fixture(scope="module")
def backend(redis_server: Any) -> Iterator[Proxy]:
    with Proxy(redis_server.port) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def watched(start_project: Any, backend: Proxy) -> Iterator[Project]:
    """A project whose broker's sockets take no timeout, so that a thread keeps the time."""
    with ExitStack() as stack:
        sentinel = stack.enter_context(Sentinel())
        yield start_project(
            broker_url=sentinel.url().partition("?")[0],
            broker_transport_options={"master_name": sentinel.NAME},
            result_backend=backend.url(1),
            jobtastic_policy=EAGER,
        )


def test_a_thread_that_sends_knows_the_parent_and_the_context(
    watched: Project, unique: str
) -> None:
    seen: dict[str, Any] = {}

    def see(sender: Any, headers: dict[str, Any], **_: Any) -> None:
        seen.update(headers, trace=TRACE.get())

    @watched.app.task(name="reports.parent", shared=False)
    def parent() -> None:
        watched.task("work").delay(unique, delay=0)

    TRACE.set(unique)
    before_task_publish.connect(see)
    try:
        began = parent.apply()
    finally:
        before_task_publish.disconnect(see)
    assert (seen["root_id"], seen["parent_id"], seen["trace"]) == (began.id, began.id, unique)


def test_a_dead_result_backend_is_not_taken_for_a_dead_broker(
    watched: Project, backend: Proxy, unique: str
) -> None:
    # Celery subscribes to the result as it publishes: 19 s if the backend refuses.
    work = watched.task("work")
    assert not isinstance(work.delay(f"{unique}-warm", delay=0), EagerResult)
    backend.refuse()
    try:
        assert not isinstance(work.delay(unique, delay=0), EagerResult)
        assert not runtime_of(watched.app).broker.circuit.is_open  # type: ignore[union-attr]
    finally:
        backend.open()


def test_a_restart_is_told_from_silence_within_an_except_block(
    start_project: Any, rabbitmq: Any, unique: str
) -> None:
    # What the caller is handling becomes the context of the broker's error.
    with Proxy(rabbitmq.port) as proxy:
        project = start_project(broker_url=f"amqp://guest:guest@127.0.0.1:{proxy.port}//")
        work = project.task("work")
        work.delay(f"{unique}-warm")
        proxy.refuse()
        proxy.open()
        try:
            raise TimeoutError("of the caller's own")
        except TimeoutError:
            result = work.delay(unique)
        assert result.state == "PENDING"


def test_a_message_that_the_broker_refuses_says_so_and_is_no_outage(
    start_project: Any, rabbitmq: Any, unique: str
) -> None:
    # Without confirms, as in bare Celery, the message of a full queue is lost without a word.
    project = start_project(
        broker_url=rabbitmq.url, broker_transport_options={"confirm_publish": True}
    )
    full = Queue(
        f"full-{unique}",
        Exchange(f"full-{unique}"),
        routing_key="full",
        queue_arguments={"x-max-length": 1, "x-overflow": "reject-publish"},
    )
    work = project.task("work")
    project.app.conf.task_queues = [full]
    route = {"queue": full.name}
    assert work.apply_async((f"{unique}-1",), **route).state == "PENDING"
    with pytest.raises(OperationalError):
        work.apply_async((f"{unique}-2",), **route)
    failed = work.async_or_fail(args=(f"{unique}-3",), **route)
    assert failed.state == "FAILURE"
    assert "MessageNacked" in str(failed.result)
    assert not runtime_of(project.app).broker.circuit.is_open  # type: ignore[union-attr]


def sent(app: Any, queue: str) -> int:
    """How many messages are in a queue."""
    with app.connection_for_read() as connection:
        return int(connection.default_channel.queue_declare(queue, passive=True).message_count)


@pytest.mark.parametrize("mode", ["raise", "fail"])
def test_a_fork_after_the_first_call_shares_no_connection(
    start_project: Any, rabbitmq: Any, unique: str, mode: str
) -> None:
    # gunicorn --preload, uWSGI: bare Celery writes from both processes on one socket, so that
    # RabbitMQ closes it.  `os.fork` runs none of the hooks by which Celery's workers avoid that.
    project = start_project(
        broker_url=rabbitmq.url,
        jobtastic_policy={"tasks": {"reports.*": {"on_broker_error": mode}}},
    )
    work, opened = project.task("work"), []
    work.delay(f"{unique}-parent")
    pool = project.app.pool if mode == "raise" else runtime_of(project.app).broker._pool()  # type: ignore[union-attr]
    child = os.fork()
    if not child:
        code = 1
        try:
            for n in range(20):
                work.delay(f"{unique}-child-{n}")
            mine = project.app.pool if mode == "raise" else runtime_of(project.app).broker._pool()  # type: ignore[union-attr]
            code = 0 if mine is not pool else 2
        finally:
            os._exit(code)
    for n in range(20):
        opened.append(work.delay(f"{unique}-{n}"))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    for n in range(20, 30):
        opened.append(work.delay(f"{unique}-{n}"))
    assert {result.state for result in opened} == {"PENDING"}
    wait_until(lambda: sent(project.app, project.app.conf.task_default_queue) == 51)
