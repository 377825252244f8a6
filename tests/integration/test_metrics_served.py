"""Metrics of what is not a prefork worker: a web server of several processes, and a solo worker."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest
from prometheus_client.parser import text_string_to_metric_families

from jobtastic_ext.testing.server import free_port
from tests.integration.conftest import POLICY, Project, wait_until
from tests.workers import ROOT


def fetched(port: int, path: str) -> str:
    with urlopen(f"http://127.0.0.1:{port}{path}", timeout=30) as answer:
        return str(answer.read().decode())


def measured(port: int, name: str, task: str = "cached") -> Counter[str]:
    """What one metric says of a task, by its decision or outcome."""
    found: Counter[str] = Counter()
    for family in text_string_to_metric_families(fetched(port, "/metrics")):
        for sample in family.samples:
            if sample.name == f"jobtastic_{name}" and sample.labels["task"] == f"reports.{task}":
                word = sample.labels.get("decision") or sample.labels.get("outcome") or ""
                found[word] += sample.value
    return found


@contextlib.contextmanager
def gunicorn(project: Project, folder: Path, *options: str) -> Iterator[int]:
    """Serve `tests.served` by two processes, at the port that this gives."""
    pytest.importorskip("gunicorn")
    port = free_port()
    environ = {
        **os.environ,
        "JOBTASTIC_TEST_CONF": json.dumps(project.conf),
        "PROMETHEUS_MULTIPROC_DIR": str(folder),
        "HOME": str(folder.parent),  # where it has a socket for its own commands
    }
    command = [sys.executable, "-m", "gunicorn", "-w", "2", "-b", f"127.0.0.1:{port}", *options]
    with (folder.parent / "gunicorn.log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "tests.served:site"], cwd=ROOT, env=environ, stderr=log, stdout=log
        )
    try:
        yield port
    finally:
        process.terminate()
        process.wait(timeout=60)


def is_up(port: int) -> bool:
    with contextlib.suppress(OSError):
        return bool(fetched(port, "/metrics")) or True
    return False


@pytest.mark.parametrize("options", [(), ("--preload",)], ids=["each by itself", "preload"])
def test_the_processes_of_a_web_server_count_together(
    start_project: Callable[..., Project], tmp_path: Path, unique: str, options: tuple[str, ...]
) -> None:
    project = start_project(jobtastic_policy=POLICY)
    project.worker()
    (tmp_path / "metrics").mkdir()
    with gunicorn(project, tmp_path / "metrics", *options) as port:
        wait_until(lambda: is_up(port))
        decided: Counter[str] = Counter()
        callers: set[int] = set()

        def call() -> int:
            pid, decision = json.loads(fetched(port, f"/{unique}"))
            decided[decision] += 1
            callers.add(pid)
            return len(callers)

        wait_until(lambda: call() == 2)
        assert measured(port, "calls_total") == decided
        wait_until(lambda: call() and decided["cached"])
        wait_until(lambda: call() and measured(port, "saved_seconds_total")[""] >= 0.5)
        # The numbers of a process outlive it.
        os.kill(callers.pop(), signal.SIGKILL)
        wait_until(lambda: call() == 2)
        assert measured(port, "calls_total") == decided
    assert decided["published"] == 1
    assert project.runs("cached", f"/{unique}") == 1


def test_a_solo_worker_serves_its_own(
    start_project: Callable[..., Project], monkeypatch: pytest.MonkeyPatch, unique: str
) -> None:
    port = free_port()
    monkeypatch.setenv("METRICS_PORT", str(port))
    monkeypatch.delenv("PROMETHEUS_MULTIPROC_DIR", raising=False)
    project = start_project(jobtastic_policy=POLICY)
    worker = project.worker(pool="solo", concurrency=1, app="tests.measured")
    held = project.task("work").delay(unique, delay=0, gate=unique)
    wait_until(lambda: project.runs("work", unique))
    # While it is busy, too: what waits behind a long run is what one wants to know.
    assert measured(port, "messages_total", "work") == {"started": 1}
    project.notes.open(unique)
    held.get(timeout=60)
    wait_until(lambda: measured(port, "run_duration_seconds_count", "work") == {"succeeded": 1})
    assert measured(port, "run_wait_seconds_count", "work") == {"": 1}
    assert "are not seen" not in worker.output()
