"""Keeps an outage from costing its timeout on every call.

After some failures in a row the circuit opens: calls fail at once, and a thread of its own asks the
server, now and then, whether it is back.  No call ever waits for that probe.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Sequence
from typing import TypeVar

from .errors import StoreError, StoreUnavailable
from .records import Answer, Claim, Operation
from .stores.base import Store

__all__ = ("Circuit", "GuardedStore")

logger = logging.getLogger("jobtastic_ext")

#: Failures in a row that open the circuit.
LIMIT = 3

#: Seconds between probes, first and longest.
FIRST_PROBE, LONGEST_PROBE = 0.5, 5.0

Failed = Callable[[str, StoreError], None]

T = TypeVar("T")


class Circuit:
    """Counts the failures of one server, and knows whether it is to be asked at all.

    It opens after `limit` failures in a row, until `ping` returns.  The log says `name` and what
    the outage means, once when it begins and once when it is over.
    """

    def __init__(self, name: str, ping: Callable[[], object], meaning: str, limit: int) -> None:
        self.name = name
        self._ping, self._meaning, self._limit = ping, meaning, limit
        self._reset()

    def _reset(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._failures = 0
        self._is_open = False

    @property
    def is_open(self) -> bool:
        """Whether a call would be in vain."""
        if self._pid != os.getpid():
            self._reset()  # the prober did not survive the fork
        return self._is_open

    def succeeded(self) -> None:
        """A call was answered."""
        if self._failures:
            self._recovered()

    def failed(self, error: StoreError) -> None:
        """A call was not answered."""
        with self._lock:
            self._failures += 1
            first = self._failures == 1
            opens = self._failures >= self._limit and not self._is_open
            self._is_open = self._is_open or opens
        if first:
            logger.warning("%s does not answer (%s); %s", self.name, error, self._meaning)
        if opens:
            threading.Thread(target=self._probe, name="jobtastic-probe", daemon=True).start()

    def close(self) -> None:
        """End the probe, if there is one."""
        self._closed.set()

    def _probe(self) -> None:
        pause = FIRST_PROBE
        while not self._closed.wait(pause):
            try:
                self._ping()
            except StoreError:
                pause = min(pause * 2, LONGEST_PROBE)
            else:
                self._recovered()
                return

    def _recovered(self) -> None:
        with self._lock:
            if not self._failures:
                return
            self._failures, self._is_open = 0, False
        logger.info("%s answers again", self.name)


class GuardedStore(Store):
    """A store behind a circuit breaker.  `on_failure(key, error)` is told of each real failure."""

    def __init__(self, store: Store, name: str, on_failure: Failed | None = None) -> None:
        self._store = store
        #: How messages call the store; never a URL with a password.
        self.name = name
        self._on_failure = on_failure
        meaning = "calls go on as each task's on_store_error says"
        self._circuit = Circuit(name, store.ping, meaning, LIMIT)

    @property
    def is_open(self) -> bool:
        """Whether calls fail at once."""
        return self._circuit.is_open

    def apply(self, key: str, operation: Operation) -> Answer:
        return self._ask(key, lambda: self._store.apply(key, operation))

    def read(self, key: str) -> Claim | None:
        return self._ask(key, lambda: self._store.read(key))

    def load(self, keys: Sequence[str]) -> list[bytes | None]:
        return self._ask(keys[0], lambda: self._store.load(keys)) if keys else []

    def swap(self, key: str, old: bytes | None, new: bytes, ttl: int) -> bool:
        return self._ask(key, lambda: self._store.swap(key, old, new, ttl))

    def ping(self) -> None:
        self._store.ping()

    def close(self) -> None:
        self._circuit.close()
        self._store.close()

    def _ask(self, key: str, question: Callable[[], T]) -> T:
        if self._circuit.is_open:
            raise StoreUnavailable(f"{self.name} is not answering; it is asked again shortly")
        try:
            answer = question()
        except StoreError as error:
            self._circuit.failed(error)
            if self._on_failure is not None:
                self._on_failure(key, error)
            raise
        self._circuit.succeeded()
        return answer
