"""Whose memory it is: what each run retained, and the trends that are drawn from it.

In a process that runs one task at a time, what is retained by a run is the difference between two
levels: the lower of the reading at its end (when its result still exists) and that at the begin
of the next run (when the next arguments do), and the same before it.  So neither arguments nor
results count, and each MB is put down to one run; garbage is set aside (`garbage`).  Where
several tasks share a process, there is only its level, and the names of those that ran.
"""

from __future__ import annotations

import enum
import gc
import math
from typing import NamedTuple

from msgspec import Struct

from .garbage import LEAST_SHARE, WORTH, Check, Garbage, Look, Point, amount
from .meter import Meter, Reading, give_back
from .trend import Growth, Trend

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
    """Growth that looks like a leak, in one kind of memory."""

    growth: Growth
    trend: Trend
    kind: Kind


class Leak(NamedTuple):
    """Growth that is a leak, in one kind of memory."""

    growth: Growth
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
        self._garbage = Garbage()
        self._garbage.watch()
        self._totals: dict[str, Level] = {}
        self._trends: dict[str, Retained] = {}
        #: The last run: its task, and the levels at its begin and end.
        self._last: tuple[str | None, Level, Level] | None = None
        self._base: Level | None = None
        self._gap = True
        #: Runs of the same task that followed the last one without a reading.
        self._unread_runs = 0
        self._checks: dict[str, Check] = {}
        #: The last run failed, and how many collections there were before it.
        self._failed = False
        self._collections = 0
        #: The last runs that are looked at closely, each with the check that it is for.
        self._looks: list[tuple[Check, Look]] = []

    def close(self) -> None:
        self._garbage.close()

    def skip(self, name: str) -> None:
        """A run of a watched task begins that is not read.

        What it retains is known with the next reading if the last run was of the same task
        (`name`); else it is nobody's.
        """
        self._looks.clear()
        if self._last is not None and self._last[0] == name and not self._gap:
            self._last = (name, self._last[1], UNREAD)
            self._unread_runs += 1
        else:
            self._gap = True

    def pass_by(self, name: str) -> None:
        """A run of a task begins that is not watched."""
        if self._looks:
            self.begin(name, self._meter.read())
        self._gap, self._base = True, None

    def begin(self, name: str, reading: Reading) -> None:
        """A run begins, so what the last one retained is known."""
        self._base = self._settle(level_of(reading))
        self._last, self._gap, self._unread_runs = None, False, 0
        if self._looks or name in self._checks:
            self._look(name, amount(reading))
        self._failed, self._collections = False, self._garbage.collections

    def end(self, name: str, reading: Reading | None, counts: bool, failed: bool = False) -> None:
        """The run is over.  Without a reading its end is first known when the next one begins."""
        self._failed = failed
        if self._base is not None:
            after = level_of(reading) if reading is not None else UNREAD
            self._last = (name if counts else None, self._base, after)
        self._base = None

    def looks_closely(self, name: str) -> bool:
        """Whether this run has to be read, whatever it costs."""
        return bool(self._looks) or name in self._checks

    def leak(self, name: str) -> Leak | None:
        """Return the leak of a task that is to be reported now."""
        check = self._checks.get(name)
        if check is not None:
            return self._conclude(name, check) if check.done else None
        suspicion = self._trend(name).due()
        if suspicion is None:
            return None
        if suspicion.kind is Kind.OTHER:
            return confirm(suspicion, self._meter)
        before = amount(self._meter.read())
        self._garbage.collect()
        self._garbage.freed += max(before - amount(self._meter.read()), 0.0)
        if self._garbage.freed >= WORTH * suspicion.growth.total:
            self._checks[name] = Check(suspicion.growth, suspicion.trend)
            return None
        suspicion.trend.report(suspicion.growth)
        return Leak(suspicion.growth, suspicion.kind)

    def names(self, name: str) -> set[str]:
        return {name}

    def per_run(self, name: str) -> float:
        return self._trend(name).per_run()

    def _settle(self, now: Level) -> Level:
        """Put down what the last run retained; return the level that the next one starts from."""
        if self._last is None:
            return now
        name, before, after = self._last
        unread = after == UNREAD
        after = (min(after[0], now[0]), min(after[1], now[1]))
        if name is not None and not (unread and self._gap):
            total = self._totals.get(name, (0.0, 0.0))
            used = after[0] - before[0]
            if used < 0 and self._garbage.collections != self._collections:
                # Garbage, maybe of others, is no merit of this run.
                self._garbage.freed -= used
                used = 0.0
            total = (total[0] + used, total[1] + after[1] - before[1])
            self._totals[name] = total
            trend = self._trend(name)
            for _ in range(1 + min(self._unread_runs, MOST_UNREAD)):
                trend.add(total)
        return now if self._gap else after

    def _look(self, name: str, before: float) -> None:
        """Collect garbage before and after a run that is looked at closely."""
        self._garbage.collect()
        clean = self._meter.read()
        point = Point(amount(clean), self._failed)
        self._looks = [
            (check, look)
            for check, look in self._looks
            if check.see(look, before - look.before.used, point)
        ]
        check = self._checks.get(name)
        if check is not None and not check.done:
            self._looks.append((check, Look(point)))
        self._base = level_of(clean)

    def _conclude(self, name: str, check: Check) -> Leak | None:
        del self._checks[name]
        growth = check.verdict()
        kind = Kind.IN_USE if self._meter.counts_in_use else Kind.PRIVATE
        return Leak(growth, kind) if growth is not None else None

    def _trend(self, name: str) -> Retained:
        trend = self._trends.get(name)
        if trend is None:
            trend = self._trends[name] = Retained(self._meter.counts_in_use)
        return trend


class SharedLedger:
    """Of a process in which several tasks run, at once or around the worker's own work."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self._retained = Retained(meter.counts_in_use)
        self._names: set[str] = set()

    def skip(self, name: str) -> None:
        """Its memory is in the level, as everything is."""

    def close(self) -> None:
        """Nothing is held."""

    def pass_by(self, name: str) -> None:
        """A run of a task begins that is not watched."""

    def begin(self, name: str, reading: Reading) -> None:
        """What others do meanwhile cannot be told apart."""

    def end(self, name: str, reading: Reading | None, counts: bool, failed: bool = False) -> None:
        """A run is over."""
        if counts and len(self._names) < NAMES:
            self._names.add(name)
        if reading is not None:
            self._retained.add(level_of(reading))

    def looks_closely(self, name: str) -> bool:
        """Whether this run has to be read, whatever it costs: never here."""
        return False

    def leak(self, name: str) -> Leak | None:
        """Return the leak of this process that is to be reported now."""
        suspicion = self._retained.due()
        return confirm(suspicion, self._meter) if suspicion is not None else None

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


def confirm(suspicion: Suspicion, meter: Meter) -> Leak | None:
    """Return the growth that outlives a garbage collection; None if little does: no leak."""
    growth = suspicion.growth
    before = meter.read()
    if gc.isenabled():
        gc.collect()
    if suspicion.kind is not Kind.IN_USE:
        give_back()
    after = meter.read()
    if suspicion.kind is Kind.IN_USE:
        freed = amount(before) - amount(after)
    else:
        freed = before.private - after.private
    kept = 1 - max(freed, 0.0) / growth.total
    if kept < LEAST_SHARE:
        suspicion.trend.distrust()
        return None
    suspicion.trend.report(growth)
    return Leak(Growth(growth.per_run * kept, growth.runs, growth.total * kept), suspicion.kind)
