"""Tells a leak from garbage in cycles, which is freed in some later run, maybe of another task.

The rare full collections are watched: what they free is added to every level, as if nothing had
been collected, so no task is credited with what others left.  A task whose memory then grows is
looked at closely, for a few runs with a collection before and after, if there is garbage at all.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Mapping
from contextlib import suppress
from statistics import fmean
from typing import Any

from msgspec import Struct

from ..leaktrend import Growth, Trend
from ..memory import Meter, Reading

__all__ = ("Check", "Garbage", "amount")

#: Collections of this generation reach old objects.  Python 3.14 does it in small steps.
OLD = 1 if sys.version_info >= (3, 14) else 2

#: Share of the growth that must be left without the garbage.
LEAST_SHARE = 0.5

#: Share of the growth that garbage must have had for a closer look to be worth it.
WORTH = 0.1

#: Runs that are looked at closely.
LOOKS = 6


class Garbage:
    """How many MB the collector has freed in this process, as long as it is watched."""

    def __init__(self, meter: Meter) -> None:
        self.freed = 0.0
        self._meter = meter
        self._before: float | None = None

    def watch(self) -> None:
        gc.callbacks.append(self._note)

    def close(self) -> None:
        with suppress(ValueError):
            gc.callbacks.remove(self._note)

    def collect(self) -> None:
        """Free what only waits for the collector, unless somebody has switched it off."""
        if gc.isenabled():
            gc.collect()

    def _note(self, phase: str, info: Mapping[str, Any]) -> None:
        if info["generation"] < OLD:
            return
        now = amount(self._meter.read())
        if phase == "start":
            self._before = now
        elif self._before is not None:
            self.freed += max(self._before - now, 0.0)
            self._before = None


class Check(Struct):
    """A closer look at a task that seems to leak."""

    growth: Growth
    trend: Trend
    #: MB that single runs retained, and left as garbage.
    retained: list[float] = []
    garbage: list[float] = []

    @property
    def done(self) -> bool:
        return len(self.retained) >= LOOKS

    def verdict(self) -> Growth | None:
        """Return the growth without garbage; None if little is left.

        A task that leaks in few runs may retain nothing in these: then its growth counts, less
        the garbage.
        """
        growth = self.growth
        per_run = max(fmean(self.retained), growth.per_run - max(fmean(self.garbage), 0.0))
        kept = min(per_run / growth.per_run, 1.0)
        if kept < LEAST_SHARE:
            self.trend.distrust()
            return None
        self.trend.report(growth)
        return Growth(growth.per_run * kept, growth.runs, growth.total * kept)


def amount(reading: Reading) -> float:
    """Return the MB in use, or all private memory where that cannot be told."""
    return reading.private if reading.in_use is None else reading.in_use
