"""Time remaining from the present run alone, for a task that has no history yet.

Work is taken to follow a power of time, whose exponent is read from the latest fifth of the run:
1 is a steady pace, more is work that speeds up.  A slowdown is not carried forward: over the
kinds of work in `benchmarks/bench_estimates.py` the average pace then does better.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence

from .curves import LONGEST, Sample

__all__ = ("extrapolate",)

#: The exponent is read over the time since this share of the run.
SINCE = 0.8

#: How strongly a speed-up is carried forward, and the largest exponent.
STRENGTH, STEEPEST = 1.3, 2.5

#: An exponent whose logarithm is below this is mostly noise.
NOISE = 0.1

#: A smaller fraction is taken for this one; nothing is read from it, or from a shorter time.
LEAST = 1e-9

#: Samples that count as much as the belief in a steady pace.
CAUTION = 2


def extrapolate(samples: Sequence[Sample], now: float) -> tuple[float, float, float] | None:
    """Return seconds remaining and their 10 % and 90 % quantiles; None if nothing is known.

    `samples` are tidied.  The quantiles are those of the ratio of truth to estimate over many
    kinds of work: without a history no better is known.
    """
    elapsed, fraction = samples[-1]
    now = max(now, elapsed)
    if fraction <= 0 or now <= 0:
        return None
    start = max(0, min(bisect_left(samples, (now * SINCE, 0.0)), len(samples) - 2))
    then, done = samples[start]
    exponent = 1.0
    if LEAST < done < fraction and LEAST < then < now:
        # log1p, since two numbers that differ may have a quotient of 1.
        work, time = math.log1p((fraction - done) / done), math.log1p((now - then) / then)
        measured = math.log(work / time)
        damped = measured**3 / (measured**2 + NOISE**2)
        damped *= STRENGTH * len(samples) / (len(samples) + CAUTION)
        exponent = math.exp(min(max(damped, 0.0), STRENGTH * math.log(STEEPEST)))
    seconds = min(now * (max(fraction, LEAST) ** (-1 / exponent) - 1), LONGEST)
    low, high = math.exp(0.9 * fraction - 1.7), math.exp(1.9 - fraction / 2)
    return seconds, seconds * low, min(seconds * high, LONGEST)
