"""Starts workers as forks of a process that has imported Celery: that takes half as long.

The starter imports what the command `celery` imports whatever it is to do, and that is the package,
too, since it has commands there; an app is imported by each worker itself.
"""

from __future__ import annotations

import faulthandler
import gc
import importlib
import json
import os
import runpy
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent

#: What every worker imports before it says that it is ready.
COMMON = (
    "celery.bin.celery",
    "celery.bin.worker",
    "celery.apps.worker",
    "celery.app.builtins",
    "celery.app.control",
    "celery.backends.redis",
    "celery.concurrency.prefork",
    "celery.events.state",
    "celery.fixups.django",
    "celery.loaders.app",
    "celery.result",
    "celery.worker.autoscale",
    "celery.worker.components",
    "celery.worker.consumer",
    "celery.worker.control",
    "celery.worker.strategy",
    "kombu.transport.redis",
    "msgspec",
    "psutil",
    "yaml",
)

#: What those import, too, whose results are in a database.
DATABASE = (
    "celery.backends.database",
    "psycopg",
    "sqlalchemy.dialects.mysql.pymysql",
    "sqlalchemy.dialects.postgresql.psycopg",
)


def import_before(names: tuple[str, ...]) -> None:
    """Import what each fork would import for itself."""
    for name in names:
        importlib.import_module(name)


class Forked:
    """A process that the starter has forked; what is used of `subprocess.Popen`."""

    def __init__(self, starter: Starter, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._starter = starter

    def poll(self) -> int | None:
        if self.returncode is None:
            self.returncode = self._starter.ask({"poll": self.pid})
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        deadline = None if timeout is None else time.monotonic() + timeout
        while (code := self.poll()) is None:
            if deadline is not None and time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(str(self.pid), timeout or 0)
            time.sleep(0.01)
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)


class Starter:
    """The process that has imported Celery.  It ends with the tests, by the end of its input."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", "tests.forking"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._lock = threading.Lock()

    def ask(self, question: dict[str, Any]) -> Any:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with self._lock:
            self.process.stdin.write(json.dumps(question).encode() + b"\n")
            self.process.stdin.flush()
            return json.loads(self.process.stdout.readline())


starter: Starter | None = None


def forked(
    module: str, arguments: list[str], environ: dict[str, str], folder: Path, log: str
) -> Forked:
    """Start ``python -m module arguments`` in a session of its own, its output in a file."""
    global starter
    if starter is None:
        starter = Starter()
    call = {"module": module, "arguments": arguments, "environ": environ}
    return Forked(starter, starter.ask({**call, "folder": str(folder), "log": log}))


def become(
    module: str, arguments: list[str], environ: dict[str, str], folder: str, log: str
) -> None:
    """Be what `forked` was asked for."""
    os.setsid()
    os.chdir(folder)
    files = ((os.devnull, os.O_RDONLY), (log, os.O_WRONLY | os.O_APPEND))
    for descriptor, (path, flags) in enumerate((*files, files[1])):
        os.dup2(os.open(path, flags), descriptor)
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    faulthandler.register(signal.SIGUSR2)  # for `tests.said`
    os.environ.clear()
    os.environ.update(environ)
    sys.path[0] = folder
    sys.path[1:1] = filter(None, environ.get("PYTHONPATH", "").split(os.pathsep))
    sys.argv[1:] = arguments
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def questions() -> Iterator[dict[str, Any]]:
    """Answer what the tests ask; yield, in a fork, what it is to be."""
    with os.fdopen(os.dup(1), "wb", buffering=0) as answers:
        while line := sys.stdin.buffer.readline():
            question = json.loads(line)
            if "poll" in question:
                pid, status = os.waitpid(question["poll"], os.WNOHANG)
                answer = os.waitstatus_to_exitcode(status) if pid else None
            else:
                if "db+" in question["environ"].get("JOBTASTIC_TEST_CONF", ""):
                    import_before(DATABASE)
                answer = os.fork()
                if not answer:
                    break
            answers.write(json.dumps(answer).encode() + b"\n")
        else:
            return
    yield question


if __name__ == "__main__":
    import_before(COMMON)
    # Celery collects garbage before each fork of its own; what is frozen it need not look through.
    gc.collect()
    gc.freeze()
    for question in questions():
        become(**question)
