"""A few daemon threads whose work may be given up: whoever waits for it waits only so long."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

__all__ = ("DaemonPool",)

T = TypeVar("T")

#: Seconds without work after which a thread ends.
IDLE = 10.0


class DaemonPool:
    """At most `size` threads.  Unlike those of `concurrent.futures`, none keeps the process alive:
    one that hangs in a driver would hold up its exit for minutes.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._lock = threading.Lock()
        self._jobs: SimpleQueue[tuple[Future[Any], Callable[[], Any]]] = SimpleQueue()
        #: What was handed in and is not done yet.
        self._open = 0
        self._threads = 0

    def submit(self, work: Callable[[], T]) -> Future[T]:
        """Have `work` done by the next free thread."""
        future: Future[T] = Future()
        self._jobs.put((future, work))
        with self._lock:
            self._open += 1
            if self._threads >= min(self._open, self._size):
                return future
            self._threads += 1
        threading.Thread(target=self._run, name="jobtastic-reads", daemon=True).start()
        return future

    def _run(self) -> None:
        while self._work():
            pass

    def _work(self) -> bool:
        try:
            future, work = self._jobs.get(timeout=IDLE)
        except Empty:
            with self._lock:
                if not self._jobs.empty():
                    return True
                self._threads -= 1
                return False
        try:
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(work())
                except BaseException as error:  # noqa: BLE001 - raised where the work was asked for
                    future.set_exception(error)
        finally:
            with self._lock:
                self._open -= 1
        return True
