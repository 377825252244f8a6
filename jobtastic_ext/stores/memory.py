"""Claims in the memory of one process."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence

from ..claims.lifetime import expiry, prune
from ..claims.records import EMPTY, Answer, Claim, Operation
from ..claims.rules import step
from ..claims.store import PAGE, Store
from ..resilience.per_process import per_process

#: Expired claims are looked for after this many changes.
SWEEP_EVERY = 1_000


def wall_clock() -> int:
    """The machine's time in milliseconds."""
    return time.time_ns() // 1_000_000


class MemoryStore(Store):
    """One process' claims: for tests, for eager runs, and where every caller shares a process.

    `clock` returns the time in milliseconds.  A forked child starts with no claims: it cannot
    share those of its parent, and must not act on what it remembers of them.
    """

    def __init__(self, *, clock: Callable[[], int] = wall_clock) -> None:
        self._clock = clock
        self._memory = per_process(_Memory)

    def __repr__(self) -> str:
        return "<MemoryStore>"

    def apply(self, key: str, operation: Operation) -> Answer:
        memory = self._memory()
        with memory.lock:
            now = self._clock()
            old = memory.load(key, now)
            new, answer = step(operation, old, now)
            if new != old:
                memory.save(key, new, now)
        return answer

    def read(self, key: str) -> Claim | None:
        memory = self._memory()
        with memory.lock:
            claim = memory.load(key, self._clock())
        return None if claim == EMPTY else claim

    def look(self, key: str) -> tuple[Claim | None, int]:
        return self.read(key), self._clock()

    def load(self, keys: Sequence[str]) -> list[bytes | None]:
        memory = self._memory()
        with memory.lock:
            now = self._clock()
            return [memory.value(key, now) for key in keys]

    def swap(self, key: str, old: bytes | None, new: bytes, ttl: int) -> bool:
        memory = self._memory()
        with memory.lock:
            now = self._clock()
            if memory.value(key, now) != old:
                return False
            memory.keep(key, new, now, now + ttl)
            return True

    def pages(self, head: str) -> Iterator[list[tuple[str, Claim]]]:
        memory = self._memory()
        with memory.lock:
            now = self._clock()
            keys = [key for key in memory.held() if key.startswith(head)]
            found = [(key, memory.load(key, now)) for key in keys]
        held = [(key, claim) for key, claim in found if claim != EMPTY]
        for start in range(0, len(held), PAGE):
            yield held[start : start + PAGE]

    def ping(self) -> None:
        """Return: memory answers always."""

    def close(self) -> None:
        """Do nothing: the claims last as long as the store."""


class _Memory:
    """What one process remembers."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self._claims: dict[str, Claim] = {}
        #: Value and the time of its end.
        self._values: dict[str, tuple[bytes, int]] = {}
        self._changes = 0

    def held(self) -> list[str]:
        return list(self._claims)

    def load(self, key: str, now: int) -> Claim:
        claim = self._claims.get(key, EMPTY)
        return prune(claim, now) if now < expiry(claim) else EMPTY

    def save(self, key: str, claim: Claim, now: int) -> None:
        if now < expiry(claim):
            self._claims[key] = claim
        else:
            self._claims.pop(key, None)
        self._sweep(now)

    def value(self, key: str, now: int) -> bytes | None:
        value, expires = self._values.get(key, (None, 0))
        return value if now < expires else None

    def keep(self, key: str, value: bytes, now: int, expires: int) -> None:
        self._values[key] = value, expires
        self._sweep(now)

    def _sweep(self, now: int) -> None:
        self._changes += 1
        if self._changes % SWEEP_EVERY == 0:
            self._claims = {k: c for k, c in self._claims.items() if now < expiry(c)}
            self._values = {k: v for k, v in self._values.items() if now < v[1]}


#: The stores that URLs named, for as long as the process runs.
_shared: dict[str, MemoryStore] = {}


def shared(url: str, clock: Callable[[], int] = wall_clock) -> MemoryStore:
    """Return the store of that URL, the same for everybody who asks; the first gives its clock."""
    return _shared.setdefault(url, MemoryStore(clock=clock))


def forget_shared(url: str) -> None:
    """Let go of the store of that URL; who asks next gets an empty one."""
    _shared.pop(url, None)
