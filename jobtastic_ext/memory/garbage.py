"""Tells a leak from garbage in cycles, which is freed in some later run, maybe of another task.

Each failed run leaves such garbage: the traceback that Celery stores, the frames in it, and what
they hold (measured: 0.5 MB), alive until the pool's process has run its next task, and then until
the collector comes.  So what a collection frees is not credited to the run that it falls into;
and a task whose memory grows is looked at closely for a few runs, if there is garbage at all.
"""

from __future__ import annotations

import gc
from collections.abc import Mapping
from contextlib import suppress
from statistics import fmean, median
from typing import Any

from msgspec import Struct

from .meter import Reading
from .trend import Growth, Trend

#: Share of the growth that must be left without the garbage.
LEAST_SHARE = 0.5

#: The same where single runs were looked at, which tells more.
LEAST_LOOKED_AT = 0.25

#: Share of the growth that garbage must have had for a closer look to be worth it.
WORTH = 0.1

#: Runs that are looked at closely, and how many are tried for it.
LOOKS, TRIES = 4, 40


class Garbage:
    """What the collector does in this process, as long as it is watched."""

    def __init__(self) -> None:
        #: Collections that found something.
        self.collections = 0
        #: MB that they freed, as far as it showed.
        self.freed = 0.0

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
        if phase == "stop" and info["collected"]:
            self.collections += 1


class Point(Struct, frozen=True):
    """What is in use between two runs (MB), once garbage is collected."""

    used: float
    #: The run before it failed: what it left is still held by the pool's process.
    dirty: bool


class Look(Struct):
    """One run that is looked at closely."""

    before: Point
    #: MB more in use after it, garbage included, and without it as far as is known.
    apparent: float = 0.0
    kept: float | None = None


class Check(Struct):
    """A closer look at a task that seems to leak."""

    growth: Growth
    trend: Trend
    tries: int = 0
    #: MB that single runs retained, and left as garbage.
    retained: list[float] = []
    garbage: list[float] = []

    @property
    def done(self) -> bool:
        return len(self.retained) >= LOOKS or self.tries >= TRIES

    def see(self, look: Look, apparent: float, after: Point) -> bool:
        """Take in the point after a run; say whether the one after the next run is needed too."""
        if look.kept is not None:
            if not after.dirty:
                self._add(look.apparent, min(look.kept, after.used - look.before.used))
            return False
        self.tries += 1
        kept = after.used - look.before.used
        if after.dirty == look.before.dirty:
            self._add(apparent, kept)
        elif after.dirty:
            look.apparent, look.kept = apparent, kept
            return True
        return False

    def verdict(self) -> Growth | None:
        """Return the growth without garbage; None if little is left.

        A task that leaks in few runs may retain nothing in these: then its growth counts, less
        the garbage.
        """
        growth = self.growth
        if self.retained:
            garbage = max(fmean(self.garbage), 0.0)
            per_run = max(median(self.retained), growth.per_run - garbage)
        else:
            per_run = 0.0
        kept = min(per_run / growth.per_run, 1.0)
        if kept < LEAST_LOOKED_AT:
            self.trend.distrust()
            return None
        self.trend.report(growth)
        return Growth(growth.per_run * kept, growth.runs, growth.total * kept)

    def _add(self, apparent: float, kept: float) -> None:
        self.retained.append(kept)
        self.garbage.append(apparent - kept)


def amount(reading: Reading) -> float:
    """Return the MB in use, or all private memory where that cannot be told."""
    return reading.private if reading.in_use is None else reading.in_use
