"""What a test that fails is told of its workers: what they said at last, and are doing."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress

import psutil
import pytest

from .forking import Forked
from .workers import RUNNING, Worker

#: Lines of each.
LAST = 60

#: Seconds in which a process has written down what its threads are doing.
WRITING = 0.2


def stacks_of(worker: Worker) -> str:
    """Have a worker and its children write down what their threads are doing."""
    before = len(worker.output())
    for pid in (worker.process.pid, *worker.children()):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGUSR2)
        time.sleep(WRITING)
    return worker.output()[before:]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Iterator[None]:
    report: pytest.TestReport = yield
    if report.failed:
        for worker in list(RUNNING):
            code = worker.process.poll()
            if code == -signal.SIGKILL:
                continue  # by a test
            said = "\n".join(worker.output().splitlines()[-LAST:])
            ended = "" if code is None else f", which ended with {code}"
            report.sections.append((f"worker {worker.name}{ended}", said))
            if code is None and isinstance(worker.process, Forked):
                with suppress(psutil.Error):
                    report.sections.append((f"it is at, {worker.name}", stacks_of(worker)))
    return report
