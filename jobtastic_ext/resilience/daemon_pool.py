"""A few daemon threads whose work may be given up: whoever waits for it waits only so long."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from .per_process import start_daemon

T = TypeVar("T")

#: Seconds without work after which a thread ends.
IDLE = 10.0

#: So much work waits for each thread; more is refused, since those before it hang.
QUEUE = 100


class DaemonPool:
    """At most `size` threads.

    Unlike those of `concurrent.futures`, none keeps the process alive: one that hangs in a driver
    would hold up its exit for minutes.  A thread calls `at_end` when it ends, `idle` seconds after
    its last work.  Of one process: whoever may be forked holds it by `per_process`.
    """

    def __init__(
        self, size: int, *, idle: float = IDLE, at_end: Callable[[], object] | None = None
    ) -> None:
        self._size, self._idle, self._at_end = size, idle, at_end
        self._lock = threading.Lock()
        self._jobs: SimpleQueue[tuple[Future[Any], Callable[[], Any]]] = SimpleQueue()
        #: What was handed in and is not done yet.
        self._open = 0
        self._threads = 0

    def submit(self, work: Callable[[], T]) -> Future[T]:
        """Have `work` done by the next free thread.  Raises `TimeoutError` if too much waits."""
        future: Future[T] = Future()
        with self._lock:
            if self._open >= QUEUE * self._size:
                raise TimeoutError("every thread is busy, and more waits than can be done in time")
            self._open += 1
            self._jobs.put((future, work))
            if self._threads >= min(self._open, self._size):
                return future
            self._threads += 1
        start_daemon(self._run, "pool")
        return future

    def _run(self) -> None:
        while self._work():
            pass
        if self._at_end is not None:
            self._at_end()

    def _work(self) -> bool:
        try:
            future, work = self._jobs.get(timeout=self._idle)
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
