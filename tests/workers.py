"""Real worker processes, in a session of their own, ended by pid whatever happens."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import weakref
from pathlib import Path
from typing import Any

import psutil

from .forking import ROOT as ROOT
from .forking import Forked, forked

#: Pools that change the standard library before Celery is imported.
PATCHING = ("gevent", "eventlet")


def start(
    pool: str, command: list[str], environ: dict[str, str], folder: Path, log: str
) -> Forked | subprocess.Popen[bytes]:
    """Start ``celery``: as a fork, which is sooner there, where that makes no difference."""
    if sys.platform == "linux" and pool not in PATCHING:
        return forked("celery", command, environ, folder, log)
    with Path(log).open("ab") as output:
        return subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", "celery", *command],
            cwd=folder,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


#: Those that run now, or ended a moment ago.
RUNNING: weakref.WeakSet[Worker] = weakref.WeakSet()


class Worker:
    """A `celery worker` of `tests.reports`.  A context manager; `kill()` is a SIGKILL of it all."""

    def __init__(
        self,
        conf: dict[str, Any],
        pool: str = "prefork",
        concurrency: int = 4,
        arguments: tuple[str, ...] = (),
        app: str = "tests.reports",
        folder: Path = ROOT,
    ) -> None:
        self.log = tempfile.NamedTemporaryFile(prefix="worker-", suffix=".log")  # noqa: SIM115
        self.name = f"w{time.monotonic_ns()}@test"
        environ = {**os.environ, "JOBTASTIC_TEST_CONF": json.dumps(conf), "C_FORCE_ROOT": "1"}
        environ.pop("JOBTASTIC_WORKER", None)
        command = ["-A", app, "worker", "-P", pool, "-c", str(concurrency), "-l", "INFO"]
        command += ["--without-gossip", "--without-mingle", "-n", self.name, *arguments]
        self.process = start(pool, command, environ, folder, self.log.name)
        RUNNING.add(self)

    def __enter__(self) -> Worker:
        try:
            self.wait_for(" ready.")
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()  # to end warmly takes seconds, and its queue and its keys are nobody else's

    def output(self) -> str:
        return Path(self.log.name).read_text(errors="replace")

    def wait_for(self, text: str, seconds: float = 60) -> None:
        deadline = time.monotonic() + seconds
        while text not in self.output():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"no {text!r} from the worker:\n{self.output()}")
            time.sleep(0.05)

    def children(self) -> list[int]:
        """Pids of the pool's processes."""
        return [child.pid for child in psutil.Process(self.process.pid).children()]

    def kill(self) -> None:
        """SIGKILL the worker and all its children at once."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.log.flush()

    def __del__(self) -> None:
        self.log.close()


def end_with(parent: int) -> None:
    """End this worker and its children when the tests that started it are gone, however."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os.killpg(0, signal.SIGKILL)
