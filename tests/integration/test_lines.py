"""What waits for a run lies in the broker, and is woken by the end of it."""

from __future__ import annotations

import json
import time
import uuid
from typing import Any

import pytest
import redis
from kombu.utils.json import loads

from jobtastic_ext.broker.rabbit_line import RabbitLine
from jobtastic_ext.broker.redis_line import RedisLine
from jobtastic_ext.runtime import runtime_of
from tests.integration.conftest import POLICY, Project, wait_until

PREFIX = "lines:"


@pytest.fixture(scope="module")
def lined(start_project: Any) -> Project:
    """A project with a prefork worker of two, whose broker's keys have a prefix."""
    project: Project = start_project(
        broker_transport_options={"global_keyprefix": PREFIX, "priority_steps": [0, 5]}
    )
    project.worker(concurrency=2)
    return project


@pytest.fixture
def broker(lined: Project) -> Any:
    with redis.Redis.from_url(lined.conf["broker_url"]) as client:
        yield client


def line_of(project: Project, name: str, *args: Any, **kwargs: Any) -> str:
    runtime = runtime_of(project.app)
    assert runtime is not None
    plan = runtime.plan(project.task(name))
    assert plan is not None
    return f"{PREFIX}jobtastic.line:{plan.key(args, kwargs)}"


def follow(project: Project, unique: str, count: int, **options: Any) -> list[Any]:
    """Send a run that ends when its gate is opened, and messages that follow it under their ids."""
    work, kwargs = project.task("work"), {"gate": unique}
    first = work.delay(unique, **kwargs)
    wait_until(lambda: project.runs("work", unique))
    ids = [str(uuid.uuid4()) for _ in range(count)]
    return [
        first,
        *(work.apply_async((unique,), kwargs, task_id=one, **options) for one in ids),
    ]


def forget_claims(project: Project) -> None:
    """Let the store lose what it holds."""
    with redis.Redis.from_url(project.conf["jobtastic_store"]) as client:
        for key in client.keys(f"{project.conf['jobtastic_key_prefix']}*"):
            client.delete(key)


def test_followers_lie_in_the_broker_and_are_woken(
    lined: Project, broker: redis.Redis, unique: str
) -> None:
    results = follow(lined, unique, 5)
    line = line_of(lined, "work", unique)
    wait_until(lambda: broker.llen(line) == 5)
    assert lined.claim("work", unique).holder.waiting == "line"
    assert not broker.exists(f"{PREFIX}{lined.conf['task_default_queue']}")
    lined.notes.open(unique)
    values = [result.get(timeout=60) for result in results]
    assert len({json.dumps(value) for value in values}) == 1
    assert lined.runs("work", unique) == 1
    assert not broker.exists(line)
    for result in results:
        assert broker.zscore(f"{PREFIX}unacked_index", result.id) is None


def test_any_worker_of_celery_would_put_them_back(
    lined: Project, broker: redis.Redis, unique: str
) -> None:
    """kombu restores what lies in its hash of messages that are out; nobody else need know."""
    results = follow(lined, unique, 1, priority=7)
    line = line_of(lined, "work", unique)
    wait_until(lambda: broker.llen(line))
    _, tag, queue = broker.lrange(line, 0, -1)[0].decode().split(" ", 2)
    message, exchange, key = loads(broker.hget(f"{PREFIX}unacked", tag))
    assert (exchange, key) == ("", lined.conf["task_default_queue"])
    assert message["headers"]["id"] == results[1].id
    assert message["properties"]["priority"] == 7
    assert queue.endswith("\x06\x165")
    with lined.app.connection_for_write() as connection:
        connection.default_channel.qos.restore_by_tag(tag)
    lined.notes.open(unique)
    results[1].get(timeout=60)
    assert lined.runs("work", unique) == 1


def test_who_has_been_given_what_was_put_back_is_left_alone(
    lined: Project, broker: redis.Redis, unique: str
) -> None:
    """kombu notes what is delivered under the tag within the message, which a line once used, too.

    Woken then, a message that a worker had went into its queue a second time, and cut to its former
    length: whichever worker of Celery took it ended with a JSONDecodeError.
    """
    line = RedisLine()
    with lined.app.connection_for_write() as connection:
        channel = connection.default_channel
        channel.queue_declare(unique)
        message = channel.prepare_message("body", headers={"id": unique}, properties={})
        line.park(channel, unique, message, ("", unique), 60_000, front=False)
        (entry,) = broker.lrange(f"{PREFIX}jobtastic.line:{unique}", 0, -1)
        channel.qos.restore_by_tag(entry.decode().split(" ")[1])
        delivered = channel.basic_get(unique)
        assert delivered.headers == {"id": unique, "redelivered": True}
        assert line.wake(channel, unique, "line", 10, front=True) == 0
        assert channel.basic_get(unique) is None
        # It is the broker's still, should the worker end that was given it.
        assert broker.hexists(f"{PREFIX}unacked", delivered.delivery_tag)
        delivered.ack()
        channel.queue_delete(unique)


def test_the_line_of_a_serialized_key_is_in_order(
    lined: Project, broker: redis.Redis, unique: str
) -> None:
    turns = lined.task("turns")
    first = turns.delay(unique, gate=unique)
    wait_until(lambda: lined.runs("turns", unique))
    line, results = line_of(lined, "turns", unique), []
    for place in range(1, 5):
        results.append(turns.delay(unique, 0.1))
        wait_until(lambda place=place: broker.llen(line) == place)
    lined.notes.open(unique)
    for result in [first, *results]:
        result.get(timeout=60)
    noted = [each["id"] for each in lined.notes.read("turns") if each["x"] == unique]
    assert noted == [first.id, *(result.id for result in results)]
    # Nothing keeps the claim from the next call.
    wait_until(
        lambda: lined.claim("turns", unique) is None or not lined.claim("turns", unique).holder
    )


def test_one_that_is_revoked_in_the_line_does_not_stop_it(
    lined: Project, broker: redis.Redis, unique: str
) -> None:
    turns = lined.task("turns")
    results = [turns.delay(unique, gate=unique)]
    wait_until(lambda: lined.runs("turns", unique))
    line = line_of(lined, "turns", unique)
    for place in (1, 2):
        results.append(turns.delay(unique, 0.1))
        wait_until(lambda place=place: broker.llen(line) == place)
    results[1].revoke()
    lined.notes.open(unique)
    began = time.monotonic()
    results[2].get(timeout=60)
    assert time.monotonic() - began < 20, "it waited for the slow look"


def test_what_the_store_loses_the_broker_still_has(
    start_project: Any, redis_server: Any, unique: str
) -> None:
    """Nobody is woken when the claim is gone; they look when others would wait no longer."""
    project: Project = start_project(
        jobtastic_policy={
            "tasks": {"reports.work": {"significant_kwargs": ["x"], "herd_avoidance_timeout": 30}}
        }
    )
    project.worker(concurrency=2)
    results = follow(project, unique, 4)
    broker = redis.Redis.from_url(project.conf["broker_url"])
    wait_until(lambda: broker.keys(f"jobtastic.line:{project.conf['jobtastic_key_prefix']}*"))
    forget_claims(project)
    project.notes.open(unique)
    assert [result.get(timeout=60) for result in results]
    assert project.runs("work", unique) == 2


class Rabbit:
    """A project on RabbitMQ, and how many wait there."""

    def __init__(self, project: Project, queue_type: str) -> None:
        self.project, self.line = project, RabbitLine(queue_type)
        self.place = self.line.place("", project.conf["task_default_queue"])
        self.connection = project.app.connection_for_write()

    def waiting(self, name: str, *args: Any) -> list[int]:
        runtime = runtime_of(self.project.app)
        assert runtime is not None
        plan = runtime.plan(self.project.task(name))
        assert plan is not None
        key = plan.key(args, {})
        return self.line._queues(self.connection.default_channel, key, self.place)[2]


@pytest.fixture(scope="module", params=["classic", "quorum"])
def rabbit(request: pytest.FixtureRequest, start_project: Any, rabbitmq: Any) -> Any:
    policy = {
        **POLICY,
        "tasks": {
            **POLICY["tasks"],
            "reports.work": {"significant_kwargs": ["x"], "herd_avoidance_timeout": 30},
        },
    }
    project: Project = start_project(
        broker_url=rabbitmq.url,
        jobtastic_policy=policy,
        task_default_queue_type=request.param,
        worker_detect_quorum_queues=request.param == "quorum",
    )
    project.worker(concurrency=2)
    side = Rabbit(project, request.param)
    yield side
    side.connection.release()


def test_rabbitmq_keeps_followers(rabbit: Rabbit, unique: str) -> None:
    project = rabbit.project
    results = follow(project, unique, 5, priority=3)
    wait_until(lambda: rabbit.waiting("work", unique) == [1, 4])
    project.notes.open(unique)
    assert len({json.dumps(result.get(timeout=60)) for result in results}) == 1
    assert project.runs("work", unique) == 1
    assert rabbit.waiting("work", unique) == [0, 0]


def test_rabbitmq_keeps_a_line_in_order(rabbit: Rabbit, unique: str) -> None:
    project, turns = rabbit.project, rabbit.project.task("turns")
    results = [turns.delay(unique, gate=unique)]
    wait_until(lambda: project.runs("turns", unique))
    for place in range(1, 4):
        results.append(turns.delay(unique, 0.1))
        wait_until(lambda place=place: sum(rabbit.waiting("turns", unique)) == place)
    project.notes.open(unique)
    for result in results:
        result.get(timeout=60)
    ids = [each["id"] for each in project.notes.read("turns") if each["x"] == unique]
    assert ids == [result.id for result in results]


def test_rabbitmq_puts_the_first_back_by_itself(rabbit: Rabbit, unique: str) -> None:
    project = rabbit.project
    results = follow(project, unique, 3)
    wait_until(lambda: sum(rabbit.waiting("work", unique)) == 3)
    forget_claims(project)
    project.notes.open(unique)
    assert [result.get(timeout=60) for result in results]
    assert project.runs("work", unique) == 2
