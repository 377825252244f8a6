"""The database or memcached of the claims is cut off, silent, or restarted; the broker goes on.

Each call is answered in time, each result arrives, and a call for which the store has answered has
no second run; unless the store has forgotten it, as memcached does in a restart.
"""

from __future__ import annotations

import itertools
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from tests.databases import Database, MariaDB, PostgreSQL
from tests.integration.conftest import Project, wait_until
from tests.integration.crowd import DEADLINE, ROOM, TIMEOUT, Crowd, call_across
from tests.memcached import Memcached
from tests.servers import Cutter
from tests.thorough import CI
from tests.workers import ROOT, Worker

psycopg = pytest.importorskip("psycopg")

BOUNDED = True

DJANGO = "tests/integration/django_outages.py"

#: Of so many writes one is cut off.
EVERY = 7

#: Of ours, and of Celery's results.
WRITE = re.compile(
    rb"(INSERT INTO|UPDATE) (jobtastic_claims|.?(celery_taskmeta|django_celery_results))|COMMIT|"
    rb"(add|cas) test-"
)

DATABASES = [PostgreSQL, MariaDB]

Server = Database | Memcached


@pytest.fixture(scope="module", params=[*DATABASES, Memcached])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    for driver in ("pymysql", "pymemcache"):
        pytest.importorskip(driver)
    with request.param() as server:
        yield server


@pytest.fixture
def proxy(server: Server) -> Iterator[Cutter]:
    with Cutter(server.port, WRITE) as proxy:
        yield proxy


@pytest.fixture
def store(server: Server, proxy: Cutter) -> str:
    if isinstance(server, Memcached):
        return f"memcached://127.0.0.1:{proxy.port}"
    return "db+" + server.url.replace(f":{server.port}/", f":{proxy.port}/")


def start(
    start_project: Any, store: str, timeout: float, **settings: Any
) -> tuple[Project, Worker]:
    project: Project = start_project(
        jobtastic_store=store, jobtastic_store_timeout=timeout, **settings
    )
    worker = project.worker(concurrency=2)
    assert project.task("cached").delay("warm").get(timeout=TIMEOUT)
    return project, worker


@pytest.mark.parametrize("done", [True, False], ids=["answer lost", "question lost"])
def test_a_write_that_is_cut_off(
    start_project: Any, store: str, proxy: Cutter, unique: str, done: bool
) -> None:
    """At the caller and in the worker: who has the claim is found out on another connection."""
    project, _ = start(start_project, store, timeout=20)
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


def silent(server: Server, proxy: Cutter, crowd: Crowd) -> None:
    proxy.be_silent()
    crowd.go_on()
    proxy.open()


def restart(server: Server, proxy: Cutter, crowd: Crowd) -> None:
    server.kill()
    crowd.go_on()
    server.start()


def cut(server: Server, proxy: Cutter, crowd: Crowd) -> None:
    for done in (True, False):
        proxy.cut(0, done=done, every=EVERY)
        crowd.go_on()
    proxy.cut(-1, done=True)
    assert proxy.cuts > 5


#: Each harm to each server in CI, and elsewhere each to one.
EACH: dict[type[Server], Any] = {PostgreSQL: cut, MariaDB: silent, Memcached: restart}


@pytest.mark.parametrize(
    ("server", "harm"),
    [*itertools.product(EACH, EACH.values())] if CI else [*EACH.items()],
    indirect=["server"],
)
def test_no_call_is_lost(
    start_project: Any, server: Server, proxy: Cutter, store: str, unique: str, harm: Any
) -> None:
    project, worker = start(start_project, store, timeout=DEADLINE)
    forgets = harm is restart and isinstance(server, Memcached)
    harmed = partial(harm, server, proxy)
    crowd, ran = call_across(project, worker, unique, harmed, forgets=forgets)
    assert project.runs("work", unique) > 1 or not forgets
    if harm is not cut:
        assert crowd.unanswered
    elif not crowd.missed():
        assert set(ran.values()) == {1}


@pytest.mark.parametrize("server", [PostgreSQL], indirect=True)
def test_a_server_that_takes_no_writes(
    start_project: Any, server: Database, store: str, unique: str
) -> None:
    """As an old primary does after a failover: it answers, and is out of service all the same."""
    project, worker = start(start_project, store, timeout=DEADLINE)

    def let_write(wanted: bool) -> None:
        word = "off" if wanted else "on"
        with psycopg.connect(server.url, autocommit=True) as own:
            own.execute("SET default_transaction_read_only = off")
            own.execute(f"ALTER SYSTEM SET default_transaction_read_only = {word}")
            own.execute("SELECT pg_reload_conf()")

    def demote(crowd: Crowd) -> None:
        let_write(False)
        try:
            crowd.go_on()
        finally:
            let_write(True)

    crowd, _ = call_across(project, worker, unique, demote)
    assert crowd.unanswered


HARMS = ["silent", "restart", "cut"]


@pytest.mark.parametrize("server", DATABASES, indirect=True)
@pytest.mark.parametrize("harm", HARMS)
def test_results_there_too(
    start_project: Any, server: Database, proxy: Cutter, store: str, unique: str, harm: str
) -> None:
    project, _ = start(start_project, store, timeout=DEADLINE, result_backend=store)
    call_while_results_are_away(project, server, proxy, unique, harm)


def call_while_results_are_away(
    project: Project,
    server: Server,
    proxy: Cutter,
    unique: str,
    harm: str,
    forget_connections: Callable[[], object] = lambda: None,
) -> None:
    """What was called before, and what is called meanwhile, ends when the database is back.

    Celery's result backend may need its own connections to be forgotten.
    """
    work = project.task("work")
    calls = [work.delay(unique, delay=0, gate=unique)]
    wait_until(lambda: project.runs("work", unique))
    if harm == "silent":
        proxy.be_silent()
    elif harm == "restart":
        server.kill()
    else:
        proxy.cut(0, done=True, every=EVERY)
    began = time.monotonic()
    calls.append(work.delay(unique, delay=0, gate=unique))
    assert time.monotonic() - began < 2 * DEADLINE + ROOM
    if harm == "restart":
        server.start()
    else:
        proxy.open()
    calls.append(work.delay(unique, delay=0, gate=unique))
    project.notes.open(unique)
    forget_connections()
    assert [result.get(timeout=TIMEOUT)["x"] for result in calls] == [unique] * 3
    assert (proxy.cuts > 0) == (harm == "cut")


def test_results_in_django() -> None:
    """In a process of its own: Django is configured once for each."""
    pytest.importorskip("django_celery_results")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", DJANGO],
        cwd=ROOT,
        env={**os.environ, "PYTEST_ADDOPTS": ""},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert f"{len(HARMS)} passed" in done.stdout.splitlines()[-1], done.stdout[-8000:]


def test_turns_are_taken_after_memcached_has_forgotten_them(
    start_project: Any, unique: str
) -> None:
    """Two of them may run at a time then; what waited for its turn is not lost."""
    with Memcached() as server:
        store = f"memcached://127.0.0.1:{server.port}"
        project, _ = start(start_project, store, timeout=20)
        turns = project.task("turns")
        calls = [turns.delay(unique, delay=0, gate=unique) for _ in range(3)]
        wait_until(lambda: project.runs("turns", unique))
        wait_until(lambda: getattr(project.claim("turns", unique).holder, "waiting", ""))
        server.kill()
        server.start()
        project.notes.open(unique)
        assert [result.get(timeout=TIMEOUT) for result in calls] == [unique] * 3
        assert project.runs("turns", unique) == 3
