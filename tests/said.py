"""What a test that fails is told of the workers that run: what they said at last, and are doing."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator

import pytest

from .workers import RUNNING

#: Lines of each.
LAST = 80


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Iterator[None]:
    report: pytest.TestReport = yield
    if report.failed:
        running = [worker for worker in RUNNING if worker.process.poll() is None]
        for worker in running:
            os.kill(worker.process.pid, signal.SIGUSR1)  # Celery writes down its threads' stacks
        time.sleep(0.5 if running else 0)
        for worker in running:
            lines = worker.output().splitlines()[-LAST:]
            report.sections.append((f"worker {worker.name}", "\n".join(lines)))
    return report
