"""The contract of a store of claims."""

from __future__ import annotations

import random
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from ..errors import StoreError, StoreUnavailable
from .counts import added as counts_with
from .counts import decode as counts_of
from .records import Answer, Claim, Operation

#: Claims on one page.
PAGE = 250

#: So often an addition is tried again because another came before it, with seconds in between.
TRIES, PAUSE = 100, 0.002


class ResultPlace(NamedTuple):
    """Where results are kept as strings, so that a store on the same server may see them."""

    #: ``scheme://host:port`` or ``unix://path``.
    server: str
    db: int
    #: What their keys begin with, before the task id.
    head: bytes


class Store(ABC):
    """Keeps one `Claim` under each key and changes it atomically, by its own clock.

    The rules of the change are those of `jobtastic_ext.claims.rules.step`; a store adds
    atomicity, a clock and a bound on time.

    Every method takes at most the timeout the store was opened with
    and raises `StoreUnavailable` past it, or `StoreError` when the store refuses the operation.
    A value under a key that is not a claim counts as absent, is logged once, and is replaced by
    the next change.  A store may be used from many threads, and from a process forked after it
    was opened.
    """

    @abstractmethod
    def apply(self, key: str, operation: Operation) -> Answer:
        """Carry out `operation` on the claim under `key` and return its answer."""

    @abstractmethod
    def read(self, key: str) -> Claim | None:
        """Return the claim under `key` as it is now, or None."""

    def look(self, key: str) -> tuple[Claim | None, int]:
        """Return the claim under `key`, and the store's time in milliseconds when it was read.

        A store whose clock is not that of this machine has to do it in one step of its own.
        """
        return self.read(key), time.time_ns() // 1_000_000

    def load(self, keys: Sequence[str]) -> list[bytes | None]:
        """Return the small values under `keys`, None for what is not there, in their order.

        They live apart from the claims and mean nothing to the store.  A store that does not keep
        any leaves this and `swap` as they are here.
        """
        return [None] * len(keys)

    def swap(self, key: str, old: bytes | None, new: bytes, ttl: int) -> bool:
        """Put `new` under `key` for `ttl` milliseconds, if `old` is there now (None: nothing is).

        Atomic.  Returns whether it was done.
        """
        return True

    def add(self, key: str, counts: Mapping[str, int], ttl: int, mark: str) -> None:
        """Add to the numbers under `key`, each by its name, and keep them for `ttl` milliseconds.

        Atomic.  Of the twenty hexadecimal digits of `mark`, twelve name the writer and eight count
        up: an addition that is tried again with its mark, because nobody knows whether it was made,
        is made once.
        """
        for attempt in range(TRIES):
            (old,) = self.load([key])
            new = counts_with(old, counts, mark)
            if new is None or self.swap(key, old, new, ttl):
                return
            time.sleep(random.uniform(0, PAUSE) * attempt)
        raise StoreUnavailable(f"others kept changing {key}; it is tried again later")

    def totals(self, keys: Sequence[str]) -> list[dict[str, int]]:
        """Return the numbers under each key, none for what is not there, in their order."""
        return [counts_of(raw).counts for raw in self.load(keys)]

    def pages(self, head: str) -> Iterator[list[tuple[str, Claim]]]:
        """Yield the claims under keys that begin with `head`, some hundreds at a time, or none.

        In no order.  A claim that is made or ends meanwhile may be missing, and one may come twice.
        The timeout holds for each page.  Raises `StoreError` where a store cannot tell its keys.
        """
        raise StoreError(
            f"{self!r} cannot tell what it holds; name a claim by its key, which `explain` shows"
        )

    @abstractmethod
    def ping(self) -> None:
        """Return if the store answers; raise `StoreUnavailable` if not."""

    @abstractmethod
    def close(self) -> None:
        """Let go of connections.  A closed store opens again when it is used."""
