"""The same on every pool, and with RabbitMQ as the broker."""

from __future__ import annotations

import time
from typing import Any

import pytest
from celery import chord, group

from tests.integration.conftest import Copier, Project, wait_until

TIMEOUT = 40


def exercise(project: Project, unique: str, *, concurrent: bool = True) -> None:
    """A herd, a chord, a retry, a copy and the cache."""
    work, cached, flaky = (project.task(name) for name in ("work", "cached", "flaky"))
    with project.gate(unique) as gate:
        first = work.delay(unique, gate=gate)
        assert {work.delay(unique).id for _ in range(20)} == {first.id}
        parts = [cached.s(unique, gate=gate) for _ in range(4)]
        body = chord(parts)(project.task("tail").s("end"))
        with Copier(project) as copier:
            twice = project.task("shared").delay(unique, gate=gate)
        copier.send_again()
    assert first.get(timeout=TIMEOUT)["x"] == unique
    label, values = body.get(timeout=TIMEOUT)
    assert label == "end"
    assert len(values) == 4
    assert len({value["at"] for value in values}) == 1
    assert group(flaky.s(unique) for _ in range(3)).apply_async().get(timeout=TIMEOUT)
    assert twice.get(timeout=TIMEOUT) == {"x": unique}
    if concurrent:  # a keeper at work: it outlives its lease
        with project.gate(f"{unique}+") as gate:
            long = work.delay(f"{unique}+", gate=gate)
            wait_until(lambda: project.runs("work", f"{unique}+"))
            time.sleep(project.conf["jobtastic_lease"] + 0.5)
            assert work.delay(f"{unique}+").id == long.id
        assert long.get(timeout=TIMEOUT)["x"] == f"{unique}+"
        assert project.runs("work", f"{unique}+") == 1
    wait_until(lambda: project.claim("cached", unique).holder is None)
    assert cached.delay(unique).get(timeout=TIMEOUT) == values[0]
    assert project.runs("work", unique) == 1
    assert project.runs("cached", unique) == 1
    assert project.runs("shared", unique) == 1
    assert project.runs("flaky", unique) == 3


@pytest.mark.parametrize("pool", ["threads", "solo", "gevent"])
def test_pool(start_project: Any, unique: str, pool: str) -> None:
    project = start_project()
    project.worker(pool=pool, concurrency=1 if pool == "solo" else 8)
    exercise(project, unique)


def test_prefork(project: Project, unique: str) -> None:
    exercise(project, unique)


def test_rabbitmq_with_results_in_redis(start_project: Any, unique: str, rabbitmq: Any) -> None:
    project = start_project(broker_url=rabbitmq.url)
    project.worker(concurrency=4)
    exercise(project, unique)


def test_a_worker_with_late_acknowledgement_and_one_slot(start_project: Any, unique: str) -> None:
    project = start_project(task_acks_late=True, worker_prefetch_multiplier=1)
    project.worker(concurrency=1)
    exercise(project, unique)


def test_pickle(start_project: Any, unique: str) -> None:
    project = start_project(
        task_serializer="pickle", result_serializer="pickle", accept_content=["pickle", "json"]
    )
    project.worker(concurrency=2)
    exercise(project, unique)
