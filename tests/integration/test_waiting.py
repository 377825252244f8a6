"""The place of a task in its queue: told where it is known, and otherwise nothing."""

from __future__ import annotations

import time
from typing import Any

import pytest
import redis
from celery.result import EagerResult

from jobtastic_ext import queue_of
from jobtastic_ext.broker import queue_position
from jobtastic_ext.runtime import runtime_of
from jobtastic_ext.testing.server import EmbeddedServer
from jobtastic_ext.web import task_status
from tests.integration.steps import Steps, start_steps
from tests.servers import Proxy, SilentServer, closed_port, installed

BOUNDED = True

__all__ = ("start_steps",)


def test_the_place_in_a_queue_that_nobody_serves(start_steps: Any) -> None:
    steps: Steps = start_steps()
    plain = steps.task("plain")
    ids = [plain.apply_async((n,)).id for n in range(5)]
    assert [queue_of(steps.app, one) for one in ids] == [{"ahead": n} for n in range(5)]
    assert queue_of(steps.app, ids[2], task="steps.plain") == {"ahead": 2}
    assert queue_of(steps.app, "somebody-else") is None
    assert queue_of(steps.app, ids[0], queue="another") is None


def test_priorities_and_a_key_prefix(start_steps: Any) -> None:
    steps: Steps = start_steps(
        broker_transport_options={"global_keyprefix": f"{time.monotonic_ns()}:"}
    )
    plain = steps.task("plain")
    late = plain.apply_async((1,), priority=6).id
    first = plain.apply_async((2,), priority=0).id
    second = plain.apply_async((3,), priority=0).id
    # Redis serves the lowest number first.
    assert [queue_of(steps.app, one) for one in (first, second, late)] == [
        {"ahead": 0},
        {"ahead": 1},
        {"ahead": 2},
    ]


def test_further_back_nothing_is_said(start_steps: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue_position, "MOST", 3)
    steps: Steps = start_steps()
    ids = [steps.task("plain").apply_async((n,)).id for n in range(5)]
    assert [queue_of(steps.app, one) for one in ids] == [
        {"ahead": 0},
        {"ahead": 1},
        {"ahead": 2},
        None,
        None,
    ]


def test_a_child_and_its_parent_are_told_apart(start_steps: Any) -> None:
    steps: Steps = start_steps()
    plain = steps.task("plain")
    one = plain.apply_async((1,)).id
    two = plain.apply_async((one,), root_id=one, parent_id=one, kwargs={"frequency": 1}).id
    assert queue_of(steps.app, two) == {"ahead": 1}
    assert queue_of(steps.app, one) == {"ahead": 0}


@pytest.mark.parametrize("kind", ["refused", "silent"])
def test_a_broker_that_is_down_costs_the_timeout_once(start_steps: Any, kind: str) -> None:
    with SilentServer() as silent:
        port = closed_port() if kind == "refused" else silent.port
        steps: Steps = start_steps(broker_url=f"redis://127.0.0.1:{port}/0")
        waits = []
        for _ in range(6):
            began = time.monotonic()
            assert queue_of(steps.app, "x") is None
            waits.append(time.monotonic() - began)
        assert max(waits) < 10, "bounded, whatever the machine is doing"
        assert min(waits[1:]) < 0.2, "it is asked again though it is known to be down"


def test_another_broker_tells_nothing(start_steps: Any) -> None:
    steps: Steps = start_steps(broker_url="memory://")
    assert queue_of(steps.app, "x") is None


def test_a_silent_look_at_the_queue_is_no_outage_of_publishing(
    start_steps: Any, redis_server: Any
) -> None:
    """A page's poll is decoration: the next `delay()` is published, as bare Celery does."""
    with Proxy(redis_server.port) as proxy:
        steps: Steps = start_steps(broker_url=proxy.url(0))
        runtime = runtime_of(steps.app)
        assert runtime is not None
        assert queue_of(steps.app, "x") is None
        proxy.be_silent()
        assert queue_of(steps.app, "x") is None
        assert not runtime.broker.circuit.is_open
        proxy.open()
        assert steps.task("plain").delay(1).id


def commands(client: redis.Redis, name: str) -> int:
    """How often a server has carried out a command, also within scripts."""
    return int(client.info("commandstats").get(f"cmdstat_{name}", {"calls": 0})["calls"])


@pytest.mark.parametrize("where", ["everywhere", "next"])
def test_the_broker_is_not_kept_busy_by_pages(start_steps: Any, where: str) -> None:
    # To read a message is to copy it: 100 unknown ids and 200 messages of 1 MB were 10 s of Redis,
    # in which nobody's `delay()` got through.
    with EmbeddedServer(installed()) as server:
        steps: Steps = start_steps(broker_url=server.url(0))
        client, queue = redis.Redis(port=server.port), steps.app.conf.task_default_queue
        if where == "everywhere":
            client.lpush(queue, *[b"x" * 1_000_000] * 200)
        else:
            client.lpush(queue, b"x" * 10_000_000)
            client.lpush(queue, *[b"x" * 1_000] * 20_000)
        for n in range(50):
            assert queue_of(steps.app, f"unknown-{n}") is None
            assert "queue" not in task_status(steps.app, f"unknown-{n}")["task"]
        assert commands(client, "lindex") <= (0 if where == "everywhere" else 1)
        assert commands(client, "evalsha") + commands(client, "eval") <= 3
        assert int(client.info("stats")["total_net_output_bytes"]) < 100_000
        client.close()


def test_many_ids_are_one_look(start_steps: Any) -> None:
    with EmbeddedServer() as server:
        steps: Steps = start_steps(broker_url=server.url(0))
        ids = [steps.task("plain").apply_async((n,)).id for n in range(20)]
        client = redis.Redis(port=server.port)
        queue_of(steps.app, ids[0])
        before = commands(client, "evalsha")
        assert [queue_of(steps.app, one) for one in ids] == [{"ahead": n} for n in range(20)]
        assert commands(client, "evalsha") - before <= 2, "each id is looked for by itself"
        client.close()


def test_a_slow_look_does_not_keep_messages_from_being_sent(
    start_steps: Any, redis_server: Any
) -> None:
    # One slow answer to a page's poll opened the breaker that guards publishing: 55 of 55 calls
    # ran in the web process, while the broker took messages.
    with Proxy(redis_server.port) as proxy:
        steps: Steps = start_steps(broker_url=proxy.url(0))
        plain = steps.task("plain")
        assert plain.delay_or_eager(0).state == "PENDING"
        proxy.be_silent()
        assert queue_of(steps.app, "x") is None
        proxy.open()
        results = [plain.delay_or_eager(n) for n in range(20)]
        assert not any(isinstance(result, EagerResult) for result in results)
