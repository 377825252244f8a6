"""What past runs of a task took, kept in the store for all workers, and read from there."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from msgspec import Struct

from ..claims.store import Store
from ..errors import ArgumentNotEncodable, ArgumentUnknown, StoreError
from ..estimates.estimator import History
from ..keys.call_key import call_key, history_key
from ..policy.model import Plan
from ..resilience.per_process import per_process

logger = logging.getLogger("jobtastic_ext")

#: How long a history is kept after the last run that it learnt from, in milliseconds.
KEPT = 90 * 86_400_000
#: The same for that of a group of calls.
GROUP_KEPT = 30 * 86_400_000

#: Hexadecimal digits of a group: 65,536 groups of one task at most, whatever the arguments.
GROUP_DIGITS = 4

#: Seconds for which a process trusts what it has read or written.
TRUSTED = 1.0
#: So many histories are remembered by a process.
REMEMBERED = 1_000

#: A run shorter than `BRIEF` seconds is learnt at most once in `BRIEF_EVERY` seconds and process:
#: nobody watches it, and it would cost more than it tells.
BRIEF, BRIEF_EVERY = 0.1, 1.0

#: How often learning begins anew because another worker was quicker.
ATTEMPTS = 10


class Learned(Struct, frozen=True):
    """A history, and whether the runs behind it told how far they were."""

    history: History = History()
    reports: bool = False

    def encode(self) -> bytes:
        return (b"r" if self.reports else b"-") + self.history.encode()

    @classmethod
    def decode(cls, value: bytes | None) -> Learned:
        """Read what `encode` wrote; anything else is an empty history."""
        if not value or value[:1] not in (b"r", b"-"):
            return NOTHING
        return cls(History.decode(value[1:]), value[:1] == b"r")


NOTHING = Learned()


class Known:
    """What one process has read, and learnt."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        #: Key -> what is known, and since when.
        self.histories: dict[str, tuple[Learned, float]] = {}
        self.learnt: dict[str, float] = {}


class Histories:
    """The histories of an app's policy tasks.

    An outage of the store costs its timeout a few times (its circuit breaker), and estimates then
    go without history.
    """

    def __init__(self, store: Store, key_prefix: str) -> None:
        self._store, self._prefix = store, key_prefix
        self._known = per_process(Known)

    def names(
        self, plan: Plan, name: str, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> tuple[str, ...]:
        """Return the keys of a call's histories: its group's, if it has one, and its task's."""
        general = self.name(name)
        if plan.estimate_by is None:
            return (general,)
        try:
            key = call_key("", "", plan.signature, plan.estimate_by, tuple(args), kwargs)
        except (ArgumentNotEncodable, ArgumentUnknown, TypeError) as error:
            logger.warning("%s: estimated without estimate_by: %s", name, error)
            return (general,)
        return (f"{general}:{key[-GROUP_DIGITS:]}", general)

    def name(self, task: str) -> str:
        """Return the key of a task's own history."""
        return history_key(self._prefix, task)

    def load(self, names: Sequence[str]) -> Learned:
        """Return the first history that knows something."""
        found = self.load_many(names)
        return next((one for one in found.values() if one != NOTHING), NOTHING)

    def load_many(self, names: Iterable[str]) -> dict[str, Learned]:
        """Return the histories under `names`, in that order, by one question to the store."""
        now, memory = time.monotonic(), self._known().histories
        known = {name: memory.get(name, (NOTHING, -TRUSTED)) for name in names}
        missing = [name for name, (_, since) in known.items() if now - since >= TRUSTED]
        if missing:
            try:
                values = self._store.load(missing)
            except StoreError as error:
                logger.debug("estimated without history: %s", error)
                values = [None] * len(missing)
            for name, value in zip(missing, values, strict=True):
                learned = Learned.decode(value)
                known[name] = learned, now
                self._remember(name, learned, now)
        return {name: learned for name, (learned, _) in known.items()}

    def learn(
        self, names: Sequence[str], samples: Sequence[tuple[float, float]], seconds: float
    ) -> None:
        """Add a run that succeeded: its samples (none, if it told nothing) and its duration."""
        now, learnt = time.monotonic(), self._known().learnt
        for name in names:
            if seconds < BRIEF:
                if now - learnt.get(name, -BRIEF_EVERY) < BRIEF_EVERY:
                    continue
                learnt[name] = now
            try:
                self._learn(name, samples, seconds, GROUP_KEPT if name != names[-1] else KEPT)
            except StoreError as error:
                logger.debug("%s: a run of %.3f s is not learnt: %s", name, seconds, error)

    def _learn(
        self, name: str, samples: Sequence[tuple[float, float]], seconds: float, kept: int
    ) -> None:
        for _ in range(ATTEMPTS):
            (old,) = self._store.load([name])
            history = Learned.decode(old).history.record(samples, seconds)
            learned = Learned(history, bool(samples))
            if self._store.swap(name, old, learned.encode(), kept):
                self._remember(name, learned, time.monotonic())
                return
        logger.info("%s: a run of %.3f s is not learnt: too many at once", name, seconds)

    def _remember(self, name: str, learned: Learned, now: float) -> None:
        known = self._known()
        with known.lock:
            if len(known.histories) >= REMEMBERED:
                known.histories.clear()
                known.learnt.clear()
            known.histories[name] = learned, now
