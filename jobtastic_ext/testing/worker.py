"""A real Celery worker with a prefork pool, as a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from .guard import DEMO

__all__ = ("Worker",)


class Worker:
    """Started at once, in its own process group; killed at the end, or before."""

    def __init__(
        self,
        log: Path,
        app: str = "jobtastic_ext.demo.app",
        *,
        concurrency: int = 4,
        folder: Path | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self._log = log
        command = (sys.executable, "-m", "celery", "-A", app, "worker")
        options = ("--pool=prefork", f"--concurrency={concurrency}", "--loglevel=INFO")
        quiet = ("--without-mingle", "--without-gossip", "--without-heartbeat")
        with log.open("ab") as output:
            self._began = output.tell()
            self._process = subprocess.Popen(
                [*command, *options, *quiet, "--include=jobtastic_ext.testing.guard"],
                cwd=folder,
                env={**os.environ, **(environ or {}), DEMO: str(os.getpid())},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def wait_until_ready(self, timeout: float) -> None:
        """Return when it takes messages; raise `RuntimeError` or `TimeoutError` if it does not."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                code = self._process.returncode
                raise RuntimeError(f"the worker ended by itself (exit {code}){self._last_words()}")
            if b" ready.\n" in self._log.read_bytes()[self._began :]:
                return
            time.sleep(0.05)
        raise TimeoutError(f"the worker was not ready within {timeout:.0f} s{self._last_words()}")

    def _last_words(self) -> str:
        lines = self._log.read_bytes()[self._began :].decode(errors="replace").splitlines()
        return next((f"; its log ends: {line.strip()}" for line in reversed(lines) if line), "")

    def kill(self) -> None:
        """SIGKILL to the worker and all its children.  May be repeated."""
        if self._process.returncode is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.kill()
