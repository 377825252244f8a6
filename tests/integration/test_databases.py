"""Shops without Redis for their claims: RabbitMQ, and a database or memcached.

Celery's own database backend keeps the results; where it is the only thing that is set, claims live
beside them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from jobtastic_ext.runtime import runtime_of
from jobtastic_ext.stores.guarded import GuardedStore
from tests.databases import Database, PostgreSQL
from tests.integration.conftest import POLICY, Project, wait_until
from tests.memcached import Memcached

TIMEOUT = 60


@pytest.fixture(scope="module")
def memcached() -> Iterator[str]:
    with Memcached() as one, Memcached() as other:
        yield f"memcached://127.0.0.1:{one.port},127.0.0.1:{other.port}"


@pytest.fixture(scope="module", params=["postgresql", "mysql", "memcached"])
def conf(request: pytest.FixtureRequest, rabbitmq: Any) -> dict[str, Any]:
    kind = request.param
    database: Database = request.getfixturevalue("mariadb" if kind == "mysql" else "postgres")
    store = request.getfixturevalue("memcached") if kind == "memcached" else None
    return {
        "broker_url": rabbitmq.url,
        "result_backend": f"db+{database.url}",
        "jobtastic_store": store,
        "task_track_started": True,
    }


def test_a_run_that_fails_lets_go(
    start_project: Callable[..., Project], conf: dict[str, Any], unique: str
) -> None:
    shop = start_project(**conf)
    shop.worker(concurrency=1)
    fails = shop.task("fails")
    first = fails.delay(unique)
    assert isinstance(first.get(timeout=TIMEOUT, propagate=False), Exception)
    wait_until(lambda: getattr(shop.claim("fails", unique), "holder", None) is None, TIMEOUT)
    assert fails.delay(unique).id != first.id


def test_those_who_joined_a_killed_worker_are_served(
    start_project: Callable[..., Project], conf: dict[str, Any], unique: str
) -> None:
    project = start_project(**conf)
    doomed = project.worker(concurrency=1)
    work = project.task("work")
    joined = [work.delay(unique, delay=60) for _ in range(3)]
    assert len({result.id for result in joined}) == 1
    wait_until(lambda: project.runs("work", unique) == 1, TIMEOUT)
    doomed.kill()
    project.worker(concurrency=1)
    deadline = time.monotonic() + TIMEOUT
    while project.runs("work", unique) < 2:
        asked = work.delay(unique, delay=0)
        # A call that took so long that the run had begun and ended has begun one of its own.
        assert asked.id == joined[0].id or project.runs("work", unique) >= 2
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert joined[0].get(timeout=TIMEOUT)["x"] == unique


def test_calls_go_on_while_the_database_is_away(
    start_project: Callable[..., Project], unique: str
) -> None:
    """The store alone is away: the results are elsewhere, and every task runs."""
    with PostgreSQL() as server:
        project = start_project(
            jobtastic_store=f"db+{server.url}", jobtastic_store_timeout=0.5, jobtastic_policy=POLICY
        )
        project.worker(concurrency=2)
        work = project.task("work")
        assert work.delay(unique, delay=0).get(timeout=TIMEOUT)
        runtime = runtime_of(project.app)
        assert runtime is not None
        assert isinstance(runtime.store, GuardedStore)
        server.kill()
        try:
            began = time.monotonic()
            results = [work.delay(f"{unique}-{n % 2}", delay=0) for n in range(10)]
            assert time.monotonic() - began < TIMEOUT / 4
            for result in results:
                assert result.get(timeout=TIMEOUT)
            assert sum(project.runs("work", f"{unique}-{n}") for n in range(2)) == 10
        finally:
            server.start()
        wait_until(lambda: not runtime.store.is_open, TIMEOUT)

        def shared(n: list[int]) -> bool:
            n.append(len(n))
            with project.gate(f"{unique}-back-{len(n)}") as gate:
                first, other = (work.delay(gate, gate=gate) for _ in range(2))
            return bool(first.id == other.id and first.get(timeout=TIMEOUT))

        count: list[int] = []
        wait_until(lambda: shared(count), TIMEOUT)
        wait_until(lambda: project.runs("work", f"{unique}-back-{len(count)}") == 1, TIMEOUT)
