"""The database of the claims is cut off, silent, or restarted; broker and results go on.

Each call is answered in time, each result arrives, and a call for which the store has answered has
no second run.
"""

from __future__ import annotations

import re
import threading
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from jobtastic_ext.runtime import runtime_of
from jobtastic_ext.signals import store_failed
from jobtastic_ext.stores.guarded import GuardedStore
from tests.databases import Database, MariaDB, PostgreSQL
from tests.integration.conftest import Project, wait_until
from tests.servers import Cutter
from tests.workers import Worker

BOUNDED = True

TIMEOUT = 60

#: Of the store, and room for a busy machine.
DEADLINE, ROOM = 0.5, 5.0

#: What the log says of a store that is given up for a while.
GONE = "does not answer"

#: Of so many writes one is cut off.
EVERY = 7

WRITE = re.compile(rb"(INSERT INTO|UPDATE) jobtastic_claims")


@pytest.fixture(scope="module", params=[PostgreSQL, MariaDB])
def database(request: pytest.FixtureRequest) -> Iterator[Database]:
    pytest.importorskip("psycopg")
    with request.param() as server:
        yield server


@pytest.fixture
def proxy(database: Database) -> Iterator[Cutter]:
    with Cutter(database.port, WRITE) as proxy:
        yield proxy


def start(
    start_project: Any, database: Database, proxy: Cutter, timeout: float
) -> tuple[Project, Worker]:
    place = database.url.replace(f":{database.port}/", f":{proxy.port}/")
    project: Project = start_project(jobtastic_store=f"db+{place}", jobtastic_store_timeout=timeout)
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


class Crowd:
    """Threads that call, each argument twice, and note how long they waited."""

    def __init__(self, project: Project, unique: str) -> None:
        self.task, self.unique = project.task("cached"), unique
        self.calls: dict[str, list[Any]] = {}
        self.waits: list[float] = []
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._call, args=(n,)) for n in range(4)]

    def __enter__(self) -> Crowd:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(TIMEOUT)

    def _call(self, thread: int) -> None:
        n = 0
        while not self._stop.wait(0.2):
            n += 1
            for _ in range(2):
                began = time.monotonic()
                result = self.task.delay(f"{self.unique}-{thread}-{n}", delay=0)
                self.waits.append(time.monotonic() - began)
                self.calls.setdefault(f"{self.unique}-{thread}-{n}", []).append(result)

    def go_on(self) -> None:
        """Return when some further calls were made and have run."""
        before = set(self.calls)

        def served() -> bool:
            since = [results[0] for x, results in self.calls.copy().items() if x not in before]
            return len(since) >= 20 and all(result.ready() for result in since[:20])

        wait_until(served)


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
    work, runtime = project.task("work"), runtime_of(project.app)
    assert runtime is not None
    assert isinstance(runtime.store, GuardedStore)
    is_open, unanswered = lambda: runtime.store.is_open, []

    def hear(key: str, **_: Any) -> None:
        unanswered.append(key)

    store_failed.connect(hear)
    try:
        with Crowd(project, unique) as crowd:
            across = [work.delay(unique, delay=0, gate=unique)]
            wait_until(lambda: project.runs("work", unique))
            crowd.go_on()
            told = bool(unanswered) or GONE in worker.output()
            made = crowd.calls.copy().items()
            before = {x for x, calls in made if len(calls) == 2 and calls[0].ready()}
            harm(database, proxy, crowd)
            wait_until(lambda: not is_open())
            across += [work.delay(unique, delay=0, gate=unique)]
            project.notes.open(unique)
            crowd.go_on()
    finally:
        store_failed.disconnect(hear)
    assert max(crowd.waits) < 2 * DEADLINE + ROOM
    for x, results in crowd.calls.items():
        assert [result.get(timeout=TIMEOUT)["x"] for result in results] == [x] * len(results)
    for result in across:
        assert result.get(timeout=TIMEOUT)["x"] == unique
    ran = Counter(line["x"] for line in project.notes.read("cached"))
    assert max(ran.values()) <= 2
    # On a busy machine the store may miss its time without being harmed.
    assert told or {ran[x] for x in before} == {1}
    if harm is not cut:
        assert unanswered
    elif not unanswered and GONE not in worker.output():
        assert set(ran.values()) == {1}
