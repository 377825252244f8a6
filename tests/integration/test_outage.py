"""The store of claims is refused, or accepts and stays silent: tasks run all the same."""

from __future__ import annotations

import logging
import time
from typing import Any

import pytest

from jobtastic_ext import StoreUnavailable, signals
from jobtastic_ext.testing.server import EmbeddedServer
from tests.integration.conftest import POLICY, Project, wait_until
from tests.servers import SilentServer, closed_port

BOUNDED = True

TIMEOUT = 30


@pytest.mark.parametrize("kind", ["refused", "silent"])
def test_calls_run_without_the_store(
    start_project: Any, unique: str, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    with SilentServer() as silent:
        port = silent.port if kind == "silent" else closed_port()
        project: Project = start_project(jobtastic_store=f"redis://127.0.0.1:{port}/0")
        worker = project.worker(concurrency=2)
        work = project.task("work")
        failures: list[str] = []

        def hear(key: str, **_: Any) -> None:
            failures.append(key)

        signals.store_failed.connect(hear)
        waits = []
        try:
            with caplog.at_level(logging.INFO, logger="jobtastic_ext"):
                for n in range(20):
                    began = time.monotonic()
                    result = work.delay(f"{unique}-{n % 2}", delay=0)
                    waits.append(time.monotonic() - began)
                    assert result.get(timeout=TIMEOUT)
        finally:
            signals.store_failed.disconnect(hear)
        timeout = 0.5
        assert max(waits) < 2 * timeout + 0.5, waits
        assert sorted(waits)[len(waits) // 2] < timeout / 2, waits
        assert sum(project.runs("work", f"{unique}-{n}") for n in range(2)) == 20
        warnings = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
        assert len(warnings) == 1, warnings
        assert "does not answer" in warnings[0]
        assert len(failures) == 3
        assert 1 <= worker.output().count("does not answer") <= 3  # one for each process


def test_on_store_error_raise(start_project: Any, unique: str) -> None:
    policy = {"defaults": {"on_store_error": "raise"}, "tasks": POLICY["tasks"]}
    project = start_project(
        jobtastic_store=f"redis://127.0.0.1:{closed_port()}/0", jobtastic_policy=policy
    )
    with pytest.raises(StoreUnavailable):
        project.task("work").delay(unique)
    with pytest.raises(StoreUnavailable):
        project.task("work").forget(unique)
    # At a worker it becomes a result, which pages show.
    worker = project.worker(concurrency=1)
    failed = project.app.send_task("reports.work", (unique,))
    with pytest.raises(StoreUnavailable, match=r"^the store of claims is out of service$"):
        failed.get(timeout=TIMEOUT)
    assert "127.0.0.1" not in failed.traceback
    assert f"[{failed.id}] fails: the Redis store at " in worker.output()


def test_sharing_is_back_as_soon_as_the_store_is(
    start_project: Any, unique: str, caplog: pytest.LogCaptureFixture
) -> None:
    with EmbeddedServer() as server:
        project = start_project(jobtastic_store=server.url(0))
        project.worker(concurrency=2)
        work = project.task("work")
        assert work.delay(unique, delay=0).get(timeout=TIMEOUT)
        server.kill()
        with caplog.at_level(logging.INFO, logger="jobtastic_ext"):
            for n in range(5):
                assert work.delay(f"{unique}-{n}", delay=0).get(timeout=TIMEOUT)
            server.restart()
            wait_until(lambda: any("answers again" in r.getMessage() for r in caplog.records))
        wait_until(lambda: "answers again" in str(caplog.text))
        time.sleep(5.5)  # the worker's own probe, at its slowest
        with project.gate(unique) as gate:
            first = work.delay(f"{unique}-back", gate=gate)
            assert work.delay(f"{unique}-back").id == first.id
        assert first.get(timeout=TIMEOUT)
        assert project.runs("work", f"{unique}-back") == 1


def test_a_call_that_could_not_be_sent_leaves_nobody_waiting(
    start_project: Any, unique: str
) -> None:
    # With the broker down, celery-singleton gives 49 of 50 callers an id that was never sent.
    project = start_project(
        broker_url=f"redis://127.0.0.1:{closed_port()}/0",
        task_publish_retry=False,
        broker_transport_options={"socket_connect_timeout": 0.2},
    )
    work = project.task("work")
    with pytest.raises(work.OperationalError):
        work.delay(unique)
    claim = project.claim("work", unique)
    assert claim.holder is None
    (mark,) = claim.tombstones
    task_id = mark.partition(":")[2]
    wait_until(lambda: work.AsyncResult(task_id).state == "FAILURE")
