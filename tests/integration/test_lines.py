"""What waits for a run lies in the broker, and is woken by the end of it."""

from __future__ import annotations

import json
import time
import uuid
from typing import Any

import pytest
import redis
from kombu.utils.json import loads

from jobtastic_ext.runtime import runtime_of
from tests.integration.conftest import Project, wait_until

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
    """Send a run of 1.5 s, and messages that follow it, of ids of their own."""
    work = project.task("work")
    first = work.delay(unique, delay=1.5)
    wait_until(lambda: project.runs("work", unique))
    ids = [str(uuid.uuid4()) for _ in range(count)]
    return [
        first,
        *(work.apply_async((unique,), {"delay": 1.5}, task_id=one, **options) for one in ids),
    ]


def test_followers_lie_in_the_broker_and_are_woken(
    lined: Project, broker: redis.Redis, unique: str
) -> None:
    results = follow(lined, unique, 5)
    line = line_of(lined, "work", unique)
    wait_until(lambda: broker.llen(line) == 5)
    assert lined.claim("work", unique).holder.waiting == "line"
    assert not broker.exists(f"{PREFIX}{lined.conf['task_default_queue']}")
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
    results[1].get(timeout=60)
    assert lined.runs("work", unique) == 1


def test_the_line_of_a_serialized_key_is_in_order(
    lined: Project, broker: redis.Redis, unique: str
) -> None:
    turns = lined.task("turns")
    first = turns.delay(unique, 0.8)
    wait_until(lambda: lined.runs("turns", unique))
    line, results = line_of(lined, "turns", unique), []
    for place in range(1, 5):
        results.append(turns.delay(unique, 0.1))
        wait_until(lambda place=place: broker.llen(line) == place)
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
    results = [turns.delay(unique, 1.0)]
    wait_until(lambda: lined.runs("turns", unique))
    line = line_of(lined, "turns", unique)
    for place in (1, 2):
        results.append(turns.delay(unique, 0.1))
        wait_until(lambda place=place: broker.llen(line) == place)
    results[1].revoke()
    began = time.monotonic()
    results[2].get(timeout=60)
    assert time.monotonic() - began < 20, "it waited for the slow look"


def test_what_the_store_loses_the_broker_still_has(
    start_project: Any, redis_server: Any, unique: str
) -> None:
    """Nobody is woken when the claim is gone; they look when others would wait no longer."""
    project: Project = start_project(
        jobtastic_policy={
            "tasks": {"reports.work": {"significant_kwargs": ["x"], "herd_avoidance_timeout": 3}}
        }
    )
    project.worker(concurrency=2)
    results = follow(project, unique, 4)
    broker = redis.Redis.from_url(project.conf["broker_url"])
    wait_until(lambda: broker.keys(f"jobtastic.line:{project.conf['jobtastic_key_prefix']}*"))
    runtime = runtime_of(project.app)
    assert runtime is not None
    client = redis.Redis.from_url(project.conf["jobtastic_store"])
    for key in client.keys(f"{project.conf['jobtastic_key_prefix']}*"):
        client.delete(key)
    assert [result.get(timeout=40) for result in results]
    assert project.runs("work", unique) == 2
