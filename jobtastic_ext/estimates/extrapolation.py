"""Time remaining from the present run alone, for a task that has no history yet.

The middle, in logarithms, of two guesses.  One takes work to follow a power of time, whose exponent
is read from the latest fifth of the run: 1 is a steady pace, more is work that speeds up; a
slowdown is not carried forward.  The other goes by the pace of the last few reports.  Over the
kinds of work in `benchmarks/bench_estimates.py` both together do better than either.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from itertools import pairwise

from .course import LONGEST, Sample

#: The exponent is read over the time since this share of the run.
SINCE = 0.8

#: How strongly a speed-up is carried forward, and the largest logarithm of the exponent.
STRENGTH, STEEPEST = 1.6, 1.2

#: An exponent whose logarithm is below this is mostly noise: always, and from one sample (from n
#: it is 1 / sqrt(n)).
NOISE, NOISE_OF_ONE = 0.1, 0.4

#: A smaller fraction is taken for this one; nothing is read from it, or from a shorter time.
LEAST = 1e-9

#: The weight of each report in the pace of the last ones, and how many are looked at.
LATEST, FEW = 0.3, 15

#: Reports this far off a straight line (in shares of time) are hardly straight; the power of the
#: work left by which what is straight counts; the least spread, as a share of the largest.
STRAIGHT, SOON, LEAST_SPREAD = 0.12, 4, 0.02

#: Samples that count as much as the belief in a steady pace.
CAUTION = 2


def extrapolate(samples: Sequence[Sample], now: float) -> tuple[float, float, float] | None:
    """Return seconds remaining and their 10 % and 90 % quantiles; None if nothing is known.

    `samples` are tidied.  The quantiles are those of the ratio of truth to estimate over many
    kinds of work, and lie the closer the steadier this run went so far: without a history no
    better is known.
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
        noise = NOISE**2 + NOISE_OF_ONE**2 / (len(samples) - start)
        damped = measured**3 / (measured**2 + noise)
        damped *= STRENGTH * len(samples) / (len(samples) + CAUTION)
        exponent = math.exp(min(max(damped, 0.0), STEEPEST))
    seconds = now * (max(fraction, LEAST) ** (-1 / exponent) - 1)
    seconds = min(math.sqrt(seconds) * math.sqrt((1 - fraction) * latest_pace(samples)), LONGEST)
    unsure = 1 - steadiness(samples, now) + LEAST_SPREAD
    low, high = math.exp((1.2 * fraction - 1.9) * unsure), math.exp((2.0 - fraction) * unsure)
    return seconds, seconds * low, min(seconds * high, LONGEST)


def steadiness(samples: Sequence[Sample], now: float) -> float:
    """Return how much (0 to 1) speaks for a pace that stays as it was.

    It is the more, the nearer the reports lie to a straight line, the more of the work they cover,
    and the smaller the largest step between two of them is.
    """
    fraction = samples[-1][1]
    off = max(abs(time / now - done / fraction) for time, done in samples)
    steps = (done - before for (_, before), (_, done) in pairwise(samples))
    step = max(steps, default=fraction)
    return math.exp(-off / STRAIGHT) * (1 - (1 - fraction) ** SOON) * (1 - step / fraction)


def latest_pace(samples: Sequence[Sample]) -> float:
    """Return the seconds that the whole work takes at the pace of the last few reports."""
    time = work = 0.0
    for (then, done), (now, fraction) in pairwise(samples[-FEW:]):
        time += LATEST * (now - then - time)
        work += LATEST * (fraction - done - work)
    if work <= 0 or time <= 0:
        (now, fraction) = samples[-1]
        return now / max(fraction, LEAST)
    return min(time / work, LONGEST)
