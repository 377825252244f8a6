"""A thread that lets the runs of its process write what they held back."""

from __future__ import annotations

import threading

from ..resilience.per_process import start_daemon
from .run_progress import INTERVAL, Progress


class Ticker:
    """Calls `tick` of each run about four times a second; sleeps while there is none."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._runs: dict[int, Progress] = {}
        self._wanted = threading.Event()
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def add(self, run: Progress) -> None:
        """Let `run` tick until it is closed or taken out."""
        with self._lock:
            self._runs[id(run)] = run
            if self._thread is None:
                self._thread = start_daemon(self._work, "progress")
        if not self._wanted.is_set():
            self._wanted.set()

    def discard(self, run: Progress) -> None:
        """Take `run` out; harmless if it is not there."""
        self._runs.pop(id(run), None)

    def close(self) -> None:
        """End the thread."""
        with self._lock:  # not as the thread falls asleep
            self._stopped.set()
            self._wanted.set()

    def _work(self) -> None:
        while not self._stopped.wait(INTERVAL):
            with self._lock:
                runs = list(self._runs.values())
                if not runs and not self._stopped.is_set():
                    self._wanted.clear()
            for run in runs:
                run.tick()
            self._wanted.wait()
