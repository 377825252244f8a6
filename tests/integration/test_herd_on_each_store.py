"""Hundreds of identical calls made at once by some processes run once, and all get the one result.

On each store that needs no Redis, with RabbitMQ and a prefork worker.  The threads of a process
call together and ask for their results in turn: Celery's database backend opens a connection for
each that waits, and so many are more than a database takes.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import pytest

from tests.integration.callers import Callers
from tests.integration.conftest import Project, wait_until
from tests.memcached import Memcached
from tests.thorough import CI

PROCESSES, THREADS = 8 if CI else 3, 50


@pytest.fixture(params=["postgresql", "mysql", "memcached", "sqlite"])
def shop(
    request: pytest.FixtureRequest, start_project: Callable[..., Project], rabbitmq: Any
) -> Any:
    """Claims live in a database beside the results, or the results are in Redis."""
    # A lease that a worker beside so many threads does not miss on a busy machine, and no call that
    # goes on without a store that is slow for a moment.
    conf: dict[str, Any] = {"broker_url": rabbitmq.url, "jobtastic_lease": 60}
    conf["jobtastic_store_timeout"] = 60
    with ExitStack() as stack:
        if request.param == "memcached":
            one, other = (stack.enter_context(Memcached()) for _ in range(2))
            conf["jobtastic_store"] = f"memcached://127.0.0.1:{one.port},127.0.0.1:{other.port}"
        elif request.param != "sqlite":
            kind = {"postgresql": "postgres", "mysql": "mariadb"}[request.param]
            server = request.getfixturevalue(kind)
            conf |= {"jobtastic_store": None, "result_backend": f"db+{server.url}"}
        yield start_project("sqlite" if request.param == "sqlite" else "redis", **conf)


def test_hundreds_of_calls_run_once(shop: Project, unique: str) -> None:
    shop.worker(concurrency=2)
    with Callers(shop.conf, PROCESSES, THREADS) as callers:
        # Cached, for a process that is so late that the run has ended.
        answers = callers.call("reports.cached", unique, wait="in turn")
    assert len(answers) == PROCESSES * THREADS
    (task_id,) = {task_id for task_id, _ in answers}
    assert {got["x"] for _, got in answers} == {unique}
    assert len({got["at"] for _, got in answers}) == 1
    assert shop.runs("cached", unique) == 1
    # What a slow store did not hear ends with its lease.
    wait_until(
        lambda: shop.claim("cached", unique).holder is None, 3 * shop.conf["jobtastic_lease"]
    )
    assert shop.task("cached").delay(unique).id == task_id
