"""Whose memory it is: what each run retained, and the trends that are drawn from it.

In a process that runs one task at a time, what is retained by a run is the difference between two
levels: the lower of the reading at its end (when its result still exists) and that at the begin
of the next run (when the next arguments do), and the same before it.  So neither arguments nor
results count, and each MB is put down to one run.  Where several tasks share a process, there is
only its level, and the names of those that ran.
"""

from __future__ import annotations

import enum
import gc
import math

from msgspec import Struct

from ..leaktrend import Growth, Trend
from ..memory import Meter, Reading, give_back

__all__ = ("IsolatedLedger", "Ledger", "SharedLedger", "confirm")

#: Share of the growth that a garbage collection frees, above which it was no leak.
GARBAGE = 0.5

#: Runs without a reading that count as runs of the window at once.
MOST_UNREAD = 100

#: Names that are kept of those that share a process.
NAMES = 100

Level = tuple[float, float]


class Kind(str, enum.Enum):
    """Which memory grows, in words."""

    IN_USE = "memory in use"
    OTHER = "memory that no object accounts for: mapped, of another allocator, or fragmented"
    PRIVATE = "resident memory; what is in use cannot be told on this platform"


UNREAD: Level = (math.inf, math.inf)


class Suspicion(Struct, frozen=True):
    """Growth that looks like a leak, in one of two kinds of memory."""

    growth: Growth
    trend: Trend
    kind: Kind


class Retained:
    """Two trends: of memory in use, and of what else is resident (holes, mapped memory).

    Holes come without any leak, so growth there must be larger and last longer, and must not be
    what small objects of another size than was assumed explain.  Where memory in use cannot be
    told, there is only one trend, of all private memory.
    """

    def __init__(self, counts_in_use: bool) -> None:
        self._counts_in_use = counts_in_use
        self._used = Trend() if counts_in_use else Trend(least=4.0)
        self._other = Trend(least=16.0, patience=2)

    def add(self, level: Level) -> None:
        self._used.add(level[0])
        if self._counts_in_use:
            self._other.add(level[1])

    def per_run(self) -> float:
        return self._used.per_run()

    def due(self) -> Suspicion | None:
        growth = self._used.due()
        if growth is not None:
            kind = Kind.IN_USE if self._counts_in_use else Kind.PRIVATE
            return Suspicion(growth, self._used, kind)
        growth = self._other.due() if self._counts_in_use else None
        if growth is not None and self._used.per_run() < 0.25 * growth.per_run:
            return Suspicion(growth, self._other, Kind.OTHER)
        return None


class IsolatedLedger:
    """Of a process that runs one task at a time: who retained what."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self._totals: dict[str, Level] = {}
        self._trends: dict[str, Retained] = {}
        #: The last run: its task, and the levels at its begin and end.
        self._last: tuple[str | None, Level, Level] | None = None
        self._base: Level | None = None
        self._gap = True
        #: Runs of the same task that followed the last one without a reading.
        self._unread_runs = 0

    def skip(self, name: str | None = None) -> None:
        """A run begins that is not read.

        What it retains is known with the next reading if the last run was of the same task
        (`name`); else it is nobody's.
        """
        if name is not None and self._last is not None and self._last[0] == name and not self._gap:
            self._last = (name, self._last[1], UNREAD)
            self._unread_runs += 1
        else:
            self._gap = True

    def begin(self, reading: Reading) -> None:
        """A run begins, so what the last one retained is known."""
        now = level_of(reading)
        base = now
        if self._last is not None:
            name, before, after = self._last
            unread = after == UNREAD
            after = (min(after[0], now[0]), min(after[1], now[1]))
            if name is not None and not (unread and self._gap):
                total = self._totals.get(name, (0.0, 0.0))
                total = (total[0] + after[0] - before[0], total[1] + after[1] - before[1])
                self._totals[name] = total
                trend = self._trend(name)
                for _ in range(1 + min(self._unread_runs, MOST_UNREAD)):
                    trend.add(total)
            if not self._gap:
                base = after
        self._last, self._gap, self._base, self._unread_runs = None, False, base, 0

    def end(self, name: str, reading: Reading | None, counts: bool) -> None:
        """The run is over.  Without a reading its end is first known when the next one begins."""
        if self._base is not None:
            after = level_of(reading) if reading is not None else UNREAD
            self._last = (name if counts else None, self._base, after)
        self._base = None

    def due(self, name: str) -> Suspicion | None:
        return self._trend(name).due()

    def names(self, name: str) -> set[str]:
        return {name}

    def per_run(self, name: str) -> float:
        return self._trend(name).per_run()

    def _trend(self, name: str) -> Retained:
        trend = self._trends.get(name)
        if trend is None:
            trend = self._trends[name] = Retained(self._meter.counts_in_use)
        return trend


class SharedLedger:
    """Of a process in which several tasks run, at once or around the worker's own work."""

    def __init__(self, meter: Meter) -> None:
        self._retained = Retained(meter.counts_in_use)
        self._names: set[str] = set()

    def skip(self, name: str | None = None) -> None:
        """Its memory is in the level, as everything is."""

    def begin(self, reading: Reading) -> None:
        """What others do meanwhile cannot be told apart."""

    def end(self, name: str, reading: Reading | None, counts: bool) -> None:
        """A run is over."""
        if counts and len(self._names) < NAMES:
            self._names.add(name)
        if reading is not None:
            self._retained.add(level_of(reading))

    def due(self, name: str) -> Suspicion | None:
        return self._retained.due()

    def names(self, name: str) -> set[str]:
        return self._names | {name}

    def per_run(self, name: str) -> float:
        return self._retained.per_run()


Ledger = IsolatedLedger | SharedLedger


def level_of(reading: Reading) -> Level:
    """Return memory in use and what else is private, or all that is private and 0."""
    if reading.in_use is None:
        return reading.private, 0.0
    return reading.in_use, reading.private - reading.in_use


def confirm(suspicion: Suspicion, meter: Meter) -> Growth | None:
    """Return the growth that outlives a garbage collection; None if little does: no leak."""
    growth, kind = suspicion.growth, suspicion.kind
    before = meter.read()
    if gc.isenabled():
        gc.collect()
    if kind is not Kind.IN_USE:
        give_back()
    after = meter.read()
    if kind is Kind.IN_USE:
        freed = level_of(before)[0] - level_of(after)[0]
    else:
        freed = before.private - after.private
    if freed >= GARBAGE * growth.total:
        suspicion.trend.distrust()
        return None
    suspicion.trend.report(growth)
    kept = 1 - max(freed, 0.0) / growth.total
    return Growth(growth.per_run * kept, growth.runs, growth.total * kept)
