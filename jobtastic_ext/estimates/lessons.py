"""What past runs teach: how far a run's pace so far tells what is still to come.

Three things may explain, in logarithms, how much longer than theirs the rest of a run will take:

- its pace, from the start, beside theirs;
- its recent pace beside theirs, over the latest stretch of work;
- the straight line (time so far, over the work done) beside their curve.

How much of each carries over, its `Gains`, follows from the shapes of the past runs: pace carries
over the more fully, the more alike their curves are, and the straight line is right for a task
whose runs it fits.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from msgspec import Struct

from .course import Course
from .run_weights import weigh
from .similarity import Comparison

#: Shares of a run's time at which the curves of past runs are looked at.
STAGES = (0.03, 0.1, 0.22, 0.4, 0.6, 0.8, 0.93)

#: How much of pace and recent pace carries over where curves differ.
PACE, RECENT = 0.5, 0.4

#: Curves that differ by this much (of the elapsed time) are hardly alike.
ALIKE = 0.1

#: One curve this far from a straight line, or several this much farther from it than from one
#: another, are hardly straight.
STRAIGHT_ONE, STRAIGHT_MANY = 0.2, 0.25

#: Early pace says little: the share of time at which it counts half, for curves that differ by
#: 0.1, and the logarithm from which on a difference is none of chance.
SETTLE, DISTINCT = 0.025, 0.3

#: The spread of the rest (standard deviation of its logarithm) after one run: at least, and for
#: each by which curves differ.  After n runs it is smaller by a power of n.
LEAST_SPREAD, SPREAD, SPREAD_POWER = 0.058, 2.2, 0.18


class Gains(NamedTuple):
    """How much of each difference carries over to the rest, and the spread that remains."""

    pace: float
    recent: float
    straight: float
    spread: float


class Lessons(Struct, frozen=True):
    """What `learn` found: the weight of each course, what to believe, how soon pace settles."""

    weights: tuple[float, ...]
    belief: Gains
    settle: float

    def gains(self, share: float, seen: Comparison) -> Gains:
        """Return the gains for a run at that share of its time, which differs like that."""
        part = settled(self.settle, share, seen.pace)
        pace, recent, straight, spread = self.belief
        return Gains(part * pace, part * recent, part * straight, spread)


def learn(courses: Sequence[Course]) -> Lessons:
    """Learn from at least one course, the oldest first."""
    weights = weigh([course.seconds for course in courses])
    belief, settle = believe(courses, weights)
    return Lessons(weights=tuple(weights), belief=belief, settle=settle)


def settled(settle: float, share: float, pace: float) -> float:
    """Return how far (0 to 1) a difference in pace is more than chance at that share of time."""
    return share / (share + settle / (1 + (pace / DISTINCT) ** 2) + 1e-9)


def believe(courses: Sequence[Course], weights: Sequence[float]) -> tuple[Gains, float]:
    """Return what to believe, and how soon pace settles.

    Two distances decide, both relative to the elapsed time: of the curves from a straight line,
    and of each from the mean of the others.
    """
    total = sum(weights)
    off_line = off_others = 0.0
    for index, course in enumerate(courses):
        for stage in STAGES:
            fraction = course.fraction_at(stage)
            reached = course.reached(fraction)
            share = weights[index] / total / len(STAGES)
            off_line += share * (min(1.0, abs(reached / fraction - 1)) if fraction > 0 else 1.0)
            if len(courses) > 1:
                others = sum(
                    w * c.reached(fraction)
                    for other, (w, c) in enumerate(zip(weights, courses, strict=True))
                    if other != index
                ) / (total - weights[index])
                off_others += share * (
                    min(1.0, abs(reached / max(others, 0.001) - 1)) if fraction > 0 else 1.0
                )
    count = len(courses)
    if count == 1:
        straight = math.exp(-((off_line / STRAIGHT_ONE) ** 3))
        differ = min(off_line, 0.15)
    else:
        excess = off_line / (off_others * (1 + 0.5 / count) + 0.01) - 1
        straight = math.exp(-((max(0.0, excess) / STRAIGHT_MANY) ** 2))
        differ = min(off_line, off_others)
    differ = min(0.3, max(0.01, differ))
    alike = math.exp(-((differ / ALIKE) ** 2))
    gains = Gains(
        pace=PACE + alike * (1 - PACE - RECENT),
        recent=RECENT,
        straight=straight,
        spread=(LEAST_SPREAD + SPREAD * differ) / count**SPREAD_POWER,
    )
    return gains, SETTLE * differ / 0.1
