"""The connections of publishes that have a deadline: never more than `broker_pool_limit`.

As with Celery's own pool, a thread that finds all of them in use waits for one.  New ones are made
in a thread of their own, because to look a name up, or to shake hands, has no timeout; who waits
takes whichever connection is there first, and what comes too late serves the next call.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable
from math import inf
from typing import Any

from kombu.connection import Connection
from kombu.exceptions import OperationalError

from ..resilience.per_process import start_daemon

#: Seconds after which an idle connection is not trusted: a firewall may have dropped it.
MAX_IDLE = 120.0

#: Seconds between two attempts to connect to a broker that refuses.
PAUSE = 0.1


class PoolExhausted(TimeoutError):
    """Other threads had all of the connections until the deadline."""


class ConnectTimeout(TimeoutError):
    """A new connection was not there by the deadline; it may still come."""


class Line:
    """A connection with its producer."""

    def __init__(self, connection: Connection, producer: Any, confirms: bool) -> None:
        self.connection, self.producer, self.confirms = connection, producer, confirms
        self.errors = (
            OperationalError,
            OSError,  # a disk that is full, of brokers that are folders
            *connection.connection_errors,
            *connection.channel_errors,
        )
        #: Nothing has been sent on it yet.
        self.is_new = True
        self.used = time.monotonic()

    def close(self) -> None:
        """Close without a word to the server, which may not answer."""
        raw: Any = getattr(self.connection, "_connection", None)
        with contextlib.suppress(Exception):
            if hasattr(raw, "collect"):
                raw.collect()  # AMQP: to say goodbye is to wait for an answer
            self.connection.release()


class Waiter:
    """A thread that waits for a connection."""

    def __init__(self, lock: threading.Lock) -> None:
        self.changed = threading.Condition(lock)
        #: It has a connection made.
        self.opens = False
        #: What came of its last attempt, and when.
        self.error: BaseException | None = None
        self.failed_at = -inf

    def fail(self, error: BaseException) -> None:
        self.opens, self.error, self.failed_at = False, error, time.monotonic()
        self.changed.notify()


class ConnectionPool:
    """At most `limit` connections; 0 means that there is no limit, and that none is kept.

    `connect(confirms)` makes one, within a time of its own.  `is_refusal(error)` tells whether a
    server that did not take a connection may take one in a moment.
    """

    def __init__(
        self,
        connect: Callable[[bool], Line],
        limit: int,
        is_refusal: Callable[[BaseException], bool],
    ) -> None:
        self._connect, self._limit, self._is_refusal = connect, limit, is_refusal
        self._lock = threading.Lock()
        #: First come, first served.
        self._waiting: deque[Waiter] = deque()
        self._idle: list[Line] = []
        #: Open, or being opened.
        self._count = 0
        self._closed = False

    def take(self, confirms: bool, until: float, is_hopeless: Callable[[], bool]) -> Line:
        """Return a connection that is this thread's until it is given back or dropped.

        Raises what the attempt to connect raised; `ConnectTimeout` or `PoolExhausted` at `until`;
        and `PoolExhausted` as soon as `is_hopeless()`, which is asked after every change.
        """
        waiter = Waiter(self._lock)
        with self._lock:
            self._waiting.append(waiter)
            try:
                while True:
                    line = self._take_idle(confirms) if self._waiting[0] is waiter else None
                    if line is not None:
                        return line
                    left = until - time.monotonic()
                    if left <= 0 or is_hopeless():
                        raise self._too_late(waiter)
                    if waiter.error is not None and self._is_over(waiter.error, left):
                        raise waiter.error
                    pause = waiter.failed_at + PAUSE - time.monotonic()
                    if pause <= 0 and not waiter.opens and self._has_room(confirms):
                        self._open(waiter, confirms)
                    waiter.changed.wait(min(left, pause) if pause > 0 else left)
            finally:
                self._waiting.remove(waiter)
                self._call_next()

    def _is_over(self, error: BaseException, left: float) -> bool:
        """Whether there is no more to hope for: not for another attempt, nor for others' lines."""
        return not self._count and (left <= PAUSE or not self._is_refusal(error))

    def give_back(self, line: Line) -> None:
        """Keep a connection for the next call."""
        line.used, line.is_new = time.monotonic(), False
        self._keep(line)

    def drop(self, line: Line) -> None:
        """Close a connection."""
        line.close()
        with self._lock:
            self._count -= 1
            self._call_all()

    def drop_idle(self) -> None:
        """Close the connections that nobody uses now."""
        with self._lock:
            idle, self._idle = self._idle, []
        for line in idle:
            self.drop(line)

    def close(self) -> None:
        """Close what is idle now, and the rest when it is given back."""
        self._closed = True
        self.drop_idle()

    def wake(self) -> None:
        """Let those who wait look whether that is hopeless."""
        with self._lock:
            self._call_all()

    def add(self, line: Line) -> None:
        """Take over a connection that was made elsewhere."""
        with self._lock:
            self._count += 1
        self._keep(line)

    def _keep(self, line: Line) -> None:
        with self._lock:
            kept = not self._closed and self._count <= self._limit
            if kept:
                self._idle.append(line)
                self._call_next()
        if not kept:
            self.drop(line)

    def _take_idle(self, confirms: bool) -> Line | None:
        oldest = time.monotonic() - MAX_IDLE
        for line in reversed(self._idle):
            if line.confirms is confirms:
                self._idle.remove(line)
                if line.used > oldest:
                    return line
                self._count -= 1
                line.close()
                return self._take_idle(confirms)
        return None

    def _has_room(self, confirms: bool) -> bool:
        if not self._limit or self._count < self._limit:
            return True
        other = next((line for line in self._idle if line.confirms is not confirms), None)
        if other is None:
            return False
        self._idle.remove(other)
        self._count -= 1
        other.close()
        return True

    def _open(self, waiter: Waiter, confirms: bool) -> None:
        waiter.opens = True
        self._count += 1

        def run() -> None:
            try:
                line = self._connect(confirms)
            except BaseException as error:  # noqa: BLE001 - raised again in the caller
                with self._lock:
                    self._count -= 1
                    waiter.fail(error)
                return
            with self._lock:
                # Not `_keep`: without a limit, too, whoever had it made is waiting for it.
                closed = self._closed
                if not closed:
                    waiter.opens = False
                    self._idle.append(line)
                    self._call_next()
            if closed:
                self.drop(line)

        start_daemon(run, "connect")

    def _call_next(self) -> None:
        if self._waiting:
            self._waiting[0].changed.notify()

    def _call_all(self) -> None:
        for waiter in self._waiting:
            waiter.changed.notify()

    def _too_late(self, waiter: Waiter) -> BaseException:
        if waiter.opens:
            return ConnectTimeout("the broker was not reached in time")
        if waiter.error is None or self._count:
            return PoolExhausted(f"all {self._limit} connections to the broker were in use")
        return waiter.error
