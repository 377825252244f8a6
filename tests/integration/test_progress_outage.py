"""The result backend is gone or silent while a task reports: it goes on, and soon for nothing."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest

from jobtastic_ext.testing.server import EmbeddedServer
from tests.integration.conftest import wait_until
from tests.integration.steps import Steps, Watcher, start_steps
from tests.servers import SilentServer, closed_port

BOUNDED = True

__all__ = ("start_steps",)

#: `jobtastic_store_timeout`
BOUND = 0.5


@pytest.fixture
def backend() -> Iterator[EmbeddedServer]:
    with EmbeddedServer() as server:
        yield server


def noted(steps: Steps, x: str, seconds: float = 30) -> dict[str, Any]:
    def found() -> dict[str, Any] | None:
        return next((n for n in steps.app.notes.read("steady") if n["x"] == x), None)

    return wait_until(found, seconds)


@pytest.mark.parametrize("kind", ["refused", "silent", "unreachable"])
def test_a_backend_that_was_never_there(start_steps: Any, unique: str, kind: str) -> None:
    # Celery alone tries for some 20 s when it is refused, and waits 120 s when it is silent.
    with SilentServer(accepting=kind == "silent") as silent:
        port = closed_port() if kind == "refused" else silent.port
        steps: Steps = start_steps(
            result_backend=f"redis://127.0.0.1:{port}/0",
            redis_socket_timeout=3,
            redis_socket_connect_timeout=3,
            redis_retry_on_timeout=False,
            result_backend_transport_options={"retry_policy": {"max_retries": 0, "timeout": 1}},
        )
        worker = steps.worker(concurrency=1)
        result = steps.task("steady").apply_async((unique, 4), ignore_result=False)
        run = noted(steps, unique)
        assert run["worst"] < 2 * BOUND
        assert run["slow"] <= 1
        assert run["total"] < 2 * BOUND + 0.5
        assert worker.output().count("the result backend does not answer") == 1
        assert result.id


@pytest.mark.parametrize("kind", ["killed", "stopped"])
def test_a_backend_that_goes_and_comes_back(
    start_steps: Any, unique: str, kind: str, backend: EmbeddedServer
) -> None:
    steps: Steps = start_steps(result_backend=backend.url(0))
    worker = steps.worker(concurrency=1)
    result = steps.task("steady").delay(unique, 9)
    wait_until(lambda: result.state == "PROGRESS" and result.info.get("completed", 0) > 100)
    pid = backend.pid
    if kind == "killed":
        backend.kill()
    else:
        os.kill(pid, signal.SIGSTOP)
    time.sleep(3)
    if kind == "killed":
        backend.restart()
    else:
        os.kill(pid, signal.SIGCONT)
    worker.wait_for("the result backend answers again", 20)
    # Looked at now: on a busy machine it may be silent for half a second once more.
    assert worker.output().count("the result backend does not answer") == 1
    with Watcher(result) as watcher:
        run = noted(steps, unique)
        wait_until(lambda: watcher.seen[-1][1] == "SUCCESS")
    assert len(set(watcher.percents())) > 2  # it is shown again
    assert run["worst"] < 2 * BOUND
    assert run["slow"] <= 1
    assert run["calls"] > 1_000
