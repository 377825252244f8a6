"""Calls that are put off, and come to their time while the store is down."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from jobtastic_ext.testing.server import EmbeddedServer
from tests.integration.conftest import Project, wait_until
from tests.integration.test_across_an_outage import stopped

BOUNDED = True

DEBOUNCE = 2.0

#: Seconds after its first time within which what is put off runs without the store.
BOUND = 20.0

POLICY: dict[str, Any] = {
    "tasks": {
        "reports.work": {"significant_kwargs": ["x"], "debounce": DEBOUNCE},
        "reports.buffered": {"significant_kwargs": ["x"], "on_duplicate": "buffer_one"},
    }
}

Outage = Callable[[], Any]


@contextmanager
def restarted(server: EmbeddedServer) -> Iterator[None]:
    """Gone, and back without its data."""
    server.kill()
    try:
        yield
    finally:
        server.start()


@contextmanager
def locked(file: Path) -> Iterator[None]:
    with closing(sqlite3.connect(file, isolation_level=None)) as held:
        held.execute("BEGIN EXCLUSIVE")
        yield


@pytest.fixture(params=["silent", "restarted", "locked"])
def outage(
    request: pytest.FixtureRequest, start_project: Any, tmp_path: Path
) -> Iterator[tuple[Project, Outage]]:
    """A project with a worker, and what makes its store alone fail for as long as it lasts."""
    if request.param == "locked":
        file = tmp_path / "claims.sqlite3"
        project = start_project(jobtastic_policy=POLICY, jobtastic_store=f"sqlite:///{file}")
        project.worker(concurrency=2)
        yield project, lambda: locked(file)
        return
    with EmbeddedServer() as server:
        project = start_project(jobtastic_policy=POLICY, jobtastic_store=server.url(0))
        project.worker(concurrency=2)
        if request.param == "silent":
            yield project, lambda: stopped(server.pid)
        else:
            yield project, lambda: restarted(server)
        project.close()  # before its store is gone


def test_what_comes_to_its_time_runs_once(outage: tuple[Project, Outage], unique: str) -> None:
    project, down = outage
    work, asked = project.task("work"), time.time()
    results = [work.delay(unique, delay=0) for _ in range(3)]
    assert len({one.id for one in results}) == 1
    with down():
        assert results[0].get(timeout=60) == {"x": unique, "y": 1}
        (run,) = [line for line in project.notes.read("work") if line["x"] == unique]
        assert asked + DEBOUNCE <= run["at"] < asked + DEBOUNCE + BOUND
    # Its end is known, or looked for: who calls afterwards has a run of their own.
    after = work.delay(unique, delay=0)
    assert after.get(timeout=60) == {"x": unique, "y": 1}
    wait_until(lambda: project.runs("work", unique) == 2)
    assert work.delay(unique, delay=0).id != results[0].id
    wait_until(lambda: project.runs("work", unique) == 3)


def test_what_is_put_off_further_is_not_lost(outage: tuple[Project, Outage], unique: str) -> None:
    """The store alone knows that it is to wait for longer: without it, it runs when it was due."""
    project, down = outage
    work, asked = project.task("work"), time.time()
    first = work.delay(unique, delay=0)
    longer = work.apply_async((unique,), {"delay": 0}, countdown=60)
    assert longer.id == first.id
    with down():
        assert first.get(timeout=60 - DEBOUNCE) == {"x": unique, "y": 1}
    (run,) = [line for line in project.notes.read("work") if line["x"] == unique]
    assert asked + DEBOUNCE <= run["at"]
    # Nobody is left with an id that has run, although the store takes it for one that waits.
    wait_until(lambda: work.delay(unique, delay=0).id != first.id)
    assert work.delay(unique, delay=0).get(timeout=60) == {"x": unique, "y": 1}
    assert project.runs("work", unique) == 2


def test_calls_of_the_outage_are_each_run(outage: tuple[Project, Outage], unique: str) -> None:
    project, down = outage
    work = project.task("work")
    with down():
        results = [work.delay(unique, delay=0) for _ in range(3)]
        assert len({one.id for one in results}) == 3
        assert [one.get(timeout=60) for one in results] == [{"x": unique, "y": 1}] * 3
    assert project.runs("work", unique) == 3


def test_calls_of_the_outage_that_no_worker_has_had_are_a_burst(
    start_project: Any, unique: str
) -> None:
    with EmbeddedServer() as server:
        project = start_project(jobtastic_policy=POLICY, jobtastic_store=server.url(0))
        work = project.task("work")
        with stopped(server.pid):
            results = [work.delay(unique, delay=0) for _ in range(3)]
        project.worker(concurrency=2)
        assert [one.get(timeout=60) for one in results] == [{"x": unique, "y": 1}] * 3
        assert project.runs("work", unique) == 1
        project.close()  # before its store is gone


def test_what_waits_for_a_run_that_ends_in_the_outage_runs_once(
    outage: tuple[Project, Outage], unique: str
) -> None:
    project, down = outage
    buffered = project.task("buffered")
    first = buffered.delay(unique, "first", 3)
    wait_until(lambda: project.runs("buffered", unique))
    second = buffered.delay(unique, "second")
    assert (second.decision, buffered.delay(unique).id) == ("buffered", second.id)
    wait_until(lambda: project.claim("buffered", unique).holder.waiting)
    with down():
        assert first.get(timeout=60) == "first"
    assert second.get(timeout=60) == "second"
    assert project.runs("buffered", unique) == 2
    wait_until(lambda: (third := buffered.delay(unique, "third")).id != second.id and third.get(60))
