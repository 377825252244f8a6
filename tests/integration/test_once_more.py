"""What waits for a run (`buffer_one`, `debounce`) begins when that ends, however it ends.

The lease is so long that only who ends the run can have begun the next one.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from celery.contrib.testing.worker import start_worker
from celery.signals import setup_logging

from tests.integration.conftest import Project, wait_until

RULE: dict[str, Any] = {"significant_kwargs": ["x"], "on_duplicate": "buffer_one"}

POLICY: dict[str, Any] = {
    "tasks": {
        "reports.work": RULE,
        "reports.fails": RULE,
        "reports.flaky": RULE,
        "reports.plain": {"significant_kwargs": ["x"], "debounce": 1},
    }
}

LONG = {"jobtastic_policy": POLICY, "jobtastic_lease": 600}


@pytest.fixture(scope="module", params=["redis", "sqlite"])
def patient(request: pytest.FixtureRequest, start_project: Any) -> Project:
    project: Project = start_project(request.param, **LONG)
    project.worker()
    return project


@pytest.fixture(scope="module")
def alone(start_project: Any, tmp_path_factory: Any) -> Iterator[Project]:
    """A caller and a worker in one process, which has all in its memory."""
    name = tmp_path_factory.mktemp("memory").name
    memory = {"broker_url": "memory://", "result_backend": "cache+memory://"}
    project: Project = start_project(jobtastic_store=f"memory://{name}", **memory, **LONG)
    setup_logging.connect(as_it_is)
    try:
        with start_worker(project.app, pool="solo", perform_ping_check=False):
            yield project
    finally:
        setup_logging.disconnect(as_it_is)


def as_it_is(**_: object) -> None:
    """Celery leaves the loggers alone: the process is not the worker's own."""


def waits(project: Project, name: str, x: str) -> tuple[Any, Any]:
    """Call, and call again while it runs, until a gate is open."""
    task = project.task(name)
    first = task.delay(x, gate=x)
    wait_until(lambda: project.runs(name, x))
    second = task.delay(x, delay=0, **({"failures": 0} if name == "flaky" else {}))
    assert second.decision == "buffered"
    assert [task.delay(x, delay=0).id for _ in range(5)] == [second.id] * 5
    return first, second


def attempts(project: Project, name: str, x: str) -> list[tuple[str, int]]:
    return [(line["id"], line["retries"]) for line in project.notes.read(name) if line["x"] == x]


def after_success(project: Project, x: str) -> None:
    first, second = waits(project, "work", x)
    project.notes.open(x)
    assert second.get(timeout=60) == first.get(timeout=60)
    assert attempts(project, "work", x) == [(first.id, 0), (second.id, 0)]


def after_failure(project: Project, x: str) -> None:
    first, second = waits(project, "fails", x)
    project.notes.open(x)
    wait_until(second.ready)
    assert attempts(project, "fails", x) == [(first.id, 0), (second.id, 0)]


def after_retries(project: Project, x: str) -> None:
    first, second = waits(project, "flaky", x)
    project.notes.open(x)
    second.get(timeout=60)
    assert attempts(project, "flaky", x) == [*((first.id, n) for n in range(3)), (second.id, 0)]


def after_revoke(project: Project, x: str) -> None:
    first, second = waits(project, "work", x)
    project.app.control.revoke(first.id, terminate=True, signal="SIGKILL")
    second.get(timeout=60)
    assert attempts(project, "work", x) == [(first.id, 0), (second.id, 0)]


def after_a_kill(project: Project, x: str) -> None:
    first, second = waits(project, "work", x)
    (run,) = (line for line in project.notes.read("work") if line["x"] == x)
    os.kill(run["pid"], signal.SIGKILL)
    second.get(timeout=60)
    assert attempts(project, "work", x) == [(first.id, 0), (second.id, 0)]


End = Callable[[Project, str], None]


@pytest.mark.parametrize(
    "end", [after_success, after_failure, after_retries, after_revoke, after_a_kill]
)
def test_what_waits_begins_at_the_end(patient: Project, unique: str, end: End) -> None:
    end(patient, unique)


@pytest.mark.parametrize("end", [after_success, after_failure, after_retries])
def test_in_the_memory_of_one_process(alone: Project, unique: str, end: End) -> None:
    end(alone, unique)


@pytest.mark.parametrize("name", ["work", "plain"])
def test_without_results(start_project: Any, unique: str, name: str) -> None:
    """The calls of a run get one more, and those of a burst one, although nobody can ask."""
    project: Project = start_project(task_ignore_result=True, **LONG)
    project.worker()
    if name == "work":
        _, second = waits(project, name, unique)
        project.notes.open(unique)
    else:
        second, *more = (project.task(name).delay(unique) for _ in range(20))
        assert {one.id for one in more} == {second.id}
    wait_until(lambda: (second.id, 0) in attempts(project, name, unique))
    wait_until(lambda: project.claim(name, unique).holder is None)
    assert project.runs(name, unique) == (2 if name == "work" else 1)


def test_a_burst_in_the_memory_of_one_process(alone: Project, unique: str) -> None:
    plain = alone.task("plain")
    results = [plain.delay(unique) for _ in range(50)]
    sent = alone.app.send_task("reports.plain", (unique,))
    assert [one.decision for one in results] == ["published", *["debounced"] * 49]
    assert {one.get(timeout=60) for one in (*results, sent)} == {unique}
    assert alone.runs("plain", unique) == 1
