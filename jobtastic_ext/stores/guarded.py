"""Keeps an outage of the store from costing its timeout on every call."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeVar

from ..claims.records import Answer, Claim, Operation
from ..claims.store import Store
from ..errors import StoreError, StoreUnavailable
from ..resilience.circuit_breaker import CircuitBreaker

logger = logging.getLogger("jobtastic_ext")

#: Failures in a row that open the circuit.
LIMIT = 3

Failed = Callable[[str, StoreError], None]

T = TypeVar("T")


class GuardedStore(Store):
    """A store behind a circuit breaker.  `on_failure(key, error)` is told of each real failure."""

    def __init__(self, store: Store, name: str, on_failure: Failed | None = None) -> None:
        self._store = store
        self._on_failure = on_failure
        #: What it has refused, each told once.
        self._refused: set[str] = set()
        self._circuit = CircuitBreaker(
            name,
            store.ping,
            refusal=StoreUnavailable,
            limit=LIMIT,
            consequence="calls go on as each task's on_store_error says",
        )

    @property
    def is_open(self) -> bool:
        """Whether operations fail at once."""
        return self._circuit.is_open

    def apply(self, key: str, operation: Operation) -> Answer:
        return self._ask(key, lambda: self._store.apply(key, operation))

    def read(self, key: str) -> Claim | None:
        return self._ask(key, lambda: self._store.read(key))

    def look(self, key: str) -> tuple[Claim | None, int]:
        return self._ask(key, lambda: self._store.look(key))

    def load(self, keys: Sequence[str]) -> list[bytes | None]:
        return self._ask(keys[0], lambda: self._store.load(keys)) if keys else []

    def swap(self, key: str, old: bytes | None, new: bytes, ttl: int) -> bool:
        return self._ask(key, lambda: self._store.swap(key, old, new, ttl))

    def add(self, key: str, counts: Mapping[str, int], ttl: int, mark: str) -> None:
        self._ask(key, lambda: self._store.add(key, counts, ttl, mark))

    def totals(self, keys: Sequence[str]) -> list[dict[str, int]]:
        return self._ask(keys[0], lambda: self._store.totals(keys)) if keys else []

    def pages(self, head: str) -> Iterator[list[tuple[str, Claim]]]:
        pages = self._store.pages(head)
        while (page := self._ask(head, lambda: next(pages, None))) is not None:
            yield page

    def ping(self) -> None:
        self._store.ping()

    def close(self) -> None:
        self._circuit.close()
        self._store.close()

    def _ask(self, key: str, question: Callable[[], T]) -> T:
        # What the store refuses it has answered: only one that cannot be reached is an outage.
        if self._circuit.is_open:
            return self._circuit.call(question, StoreUnavailable)  # raises, and is no new failure
        try:
            return self._circuit.call(question, StoreUnavailable)
        except StoreError as error:
            if not isinstance(error, StoreUnavailable) and str(error) not in self._refused:
                self._refused.add(str(error))
                logger.warning("%s refuses: %s", self._circuit.name, error)
            if self._on_failure is not None:
                self._on_failure(key, error)
            raise
