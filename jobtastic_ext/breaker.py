"""Keeps an outage of the store from costing its timeout on every call.

After a few failures in a row the circuit opens: calls fail at once, and a thread of its own asks
the store, now and then, whether it is back.  No call ever waits for that probe.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from typing import TypeVar

from .errors import StoreError, StoreUnavailable
from .records import Answer, Claim, Operation
from .stores.base import Store

__all__ = ("GuardedStore",)

logger = logging.getLogger("jobtastic_ext")

#: Failures in a row that open the circuit.
LIMIT = 3

#: Seconds between probes, first and longest.
FIRST_PROBE, LONGEST_PROBE = 0.5, 5.0

Failed = Callable[[str, StoreError], None]

T = TypeVar("T")


class GuardedStore(Store):
    """A store behind a circuit breaker.  `on_failure(key, error)` is told of each real failure."""

    def __init__(self, store: Store, name: str, on_failure: Failed | None = None) -> None:
        self._store = store
        #: How messages call the store; never a URL with a password.
        self.name = name
        self._on_failure = on_failure
        self._reset()

    def _reset(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._failures = 0
        self.is_open = False

    def apply(self, key: str, operation: Operation) -> Answer:
        return self._ask(key, lambda: self._store.apply(key, operation))

    def read(self, key: str) -> Claim | None:
        return self._ask(key, lambda: self._store.read(key))

    def look(self, key: str) -> tuple[Claim | None, int]:
        return self._ask(key, lambda: self._store.look(key))

    def ping(self) -> None:
        self._store.ping()

    def close(self) -> None:
        self._closed.set()
        self._store.close()

    def _ask(self, key: str, question: Callable[[], T]) -> T:
        self._check()
        try:
            answer = question()
        except StoreError as error:
            self._failed(key, error)
            raise
        if self._failures:
            self._recovered()
        return answer

    def _check(self) -> None:
        if self._pid != os.getpid():
            self._reset()  # the prober did not survive the fork
        if self.is_open:
            raise StoreUnavailable(f"{self.name} is not answering; it is asked again shortly")

    def _failed(self, key: str, error: StoreError) -> None:
        with self._lock:
            self._failures += 1
            first, opens = self._failures == 1, self._failures >= LIMIT and not self.is_open
            self.is_open = self.is_open or opens
        if first:
            logger.warning(
                "%s does not answer (%s); calls go on as each task's on_store_error says",
                self.name,
                error,
            )
        if opens:
            threading.Thread(target=self._probe, name="jobtastic-probe", daemon=True).start()
        if self._on_failure is not None:
            self._on_failure(key, error)

    def _probe(self) -> None:
        pause = FIRST_PROBE
        while not self._closed.wait(pause):
            try:
                self._store.ping()
            except StoreError:
                pause = min(pause * 2, LONGEST_PROBE)
            else:
                self._recovered()
                return

    def _recovered(self) -> None:
        with self._lock:
            if not self._failures:
                return
            self._failures, self.is_open = 0, False
        logger.info("%s answers again", self.name)
