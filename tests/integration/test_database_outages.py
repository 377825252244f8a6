"""The database of the claims is cut off, silent, or restarted; the broker goes on.

Each call is answered in time, each result arrives, and a call for which the store has answered has
no second run.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from tests.databases import Database, MariaDB, PostgreSQL
from tests.integration.conftest import Project, wait_until
from tests.integration.crowd import DEADLINE, ROOM, TIMEOUT, Crowd, call_across
from tests.servers import Cutter
from tests.workers import Worker

BOUNDED = True

#: Of so many writes one is cut off.
EVERY = 7

#: Of ours, and of Celery's results.
WRITE = re.compile(rb"(INSERT INTO|UPDATE) (jobtastic_claims|celery_taskmeta)|COMMIT")


@pytest.fixture(scope="module", params=[PostgreSQL, MariaDB])
def database(request: pytest.FixtureRequest) -> Iterator[Database]:
    for driver in ("psycopg", "pymysql"):
        pytest.importorskip(driver)
    with request.param() as server:
        yield server


@pytest.fixture
def proxy(database: Database) -> Iterator[Cutter]:
    with Cutter(database.port, WRITE) as proxy:
        yield proxy


def place(database: Database, proxy: Cutter) -> str:
    return "db+" + database.url.replace(f":{database.port}/", f":{proxy.port}/")


def start(
    start_project: Any, database: Database, proxy: Cutter, timeout: float, **settings: Any
) -> tuple[Project, Worker]:
    project: Project = start_project(
        jobtastic_store=place(database, proxy), jobtastic_store_timeout=timeout, **settings
    )
    worker = project.worker(concurrency=2)
    assert project.task("cached").delay("warm").get(timeout=TIMEOUT)
    return project, worker


@pytest.mark.parametrize("done", [True, False], ids=["answer lost", "question lost"])
def test_a_write_that_is_cut_off(
    start_project: Any, database: Database, proxy: Cutter, unique: str, done: bool
) -> None:
    """At the caller and in the worker: who has the claim is found out on another connection."""
    project, _ = start(start_project, database, proxy, timeout=20)
    work = project.task("work")
    for n in range(3):  # the claim, the beginning, the end
        x, cuts = f"{unique}-{n}", proxy.cuts
        proxy.cut(n, done=done)
        calls = [work.delay(x, delay=0, gate=x)]
        wait_until(lambda x=x: project.runs("work", x))
        calls += [work.delay(x, delay=0, gate=x)]
        project.notes.open(x)
        assert [result.get(timeout=TIMEOUT)["x"] for result in calls] == [x, x]
        assert len({result.id for result in calls}) == 1
        wait_until(lambda cuts=cuts: proxy.cuts > cuts)
        wait_until(lambda x=x: getattr(project.claim("work", x), "holder", None) is None)
        assert project.runs("work", x) == 1


def silent(server: Database, proxy: Cutter, crowd: Crowd) -> None:
    proxy.be_silent()
    crowd.go_on()
    proxy.open()


def restart(server: Database, proxy: Cutter, crowd: Crowd) -> None:
    server.kill()
    crowd.go_on()
    server.start()


def cut(server: Database, proxy: Cutter, crowd: Crowd) -> None:
    for done in (True, False):
        proxy.cut(0, done=done, every=EVERY)
        crowd.go_on()
    proxy.cut(-1, done=True)
    assert proxy.cuts > 5


@pytest.mark.parametrize("harm", [silent, restart, cut])
def test_no_call_is_lost(
    start_project: Any, database: Database, proxy: Cutter, unique: str, harm: Any
) -> None:
    project, worker = start(start_project, database, proxy, timeout=DEADLINE)
    crowd, ran = call_across(project, worker, unique, partial(harm, database, proxy))
    if harm is not cut:
        assert crowd.unanswered
    elif not crowd.missed():
        assert set(ran.values()) == {1}


@pytest.mark.parametrize("harm", ["silent", "restart", "cut"])
def test_results_there_too(
    start_project: Any, database: Database, proxy: Cutter, unique: str, harm: str
) -> None:
    """What was called before, and what is called meanwhile, ends when the database is back."""
    results = place(database, proxy)
    project, _ = start(start_project, database, proxy, timeout=DEADLINE, result_backend=results)
    work = project.task("work")
    calls = [work.delay(unique, delay=0, gate=unique)]
    wait_until(lambda: project.runs("work", unique))
    if harm == "silent":
        proxy.be_silent()
    elif harm == "restart":
        database.kill()
    else:
        proxy.cut(0, done=True, every=EVERY)
    began = time.monotonic()
    calls.append(work.delay(unique, delay=0, gate=unique))
    assert time.monotonic() - began < 2 * DEADLINE + ROOM
    if harm == "restart":
        database.start()
    else:
        proxy.open()
    calls.append(work.delay(unique, delay=0, gate=unique))
    project.notes.open(unique)
    assert [result.get(timeout=TIMEOUT)["x"] for result in calls] == [unique] * 3
    assert (proxy.cuts > 0) == (harm == "cut")
