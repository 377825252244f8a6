"""What past runs teach: how far a run's pace so far tells what is still to come.

Each past run is held against the others, as if it were the present one, at several stages of its
time.  Three things may explain, in logarithms, how much longer than theirs its rest took:

- its pace, from the start, beside theirs;
- its recent pace beside theirs, over the latest stretch of work;
- the straight line (time so far, over the work done) beside their curve.

A ridge regression for each stage finds the share of each that carries over, its `Gains`.  With few
runs it stays near a belief: that pace carries over the more fully, the more alike the curves of
the runs are, and that the straight line is right for a task whose runs it fits.  For a task with
two kinds of runs, pace tells all; for one with a random stall, nearly nothing.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from typing import NamedTuple

from msgspec import Struct

from .comparison import STRETCH, Comparison, Present, clip, compare, mark
from .curves import Course
from .regimes import weigh

__all__ = ("Gains", "Lessons", "learn")

#: Shares of a run's time at which past runs are held against one another.
STAGES = (0.03, 0.1, 0.22, 0.4, 0.6, 0.8, 0.93)

#: The belief: how much of pace and recent pace carries over where curves differ.
BELIEF_PACE, BELIEF_RECENT = 0.5, 0.4

#: Curves that differ by this much (of the elapsed time) are hardly alike.
ALIKE = 0.1

#: One curve this far from a straight line, or several this much farther from it than from one
#: another, are hardly straight.
STRAIGHT_ONE, STRAIGHT_MANY = 0.2, 0.25

#: Early pace says little: the share of time at which it counts half, for curves that differ by
#: 0.1, and the logarithm from which on a difference is none of chance.
SETTLE, DISTINCT = 0.025, 0.3

#: How firmly the belief is held: that of pace, that of the straight line.
RIDGE_PACE, RIDGE_STRAIGHT = 0.1, 0.05

#: The weight of the stages next to the one that is looked at.
NEIGHBOUR = 0.3

#: The spread of the rest (standard deviation of its logarithm) that is believed, for curves that
#: differ by 0.15, and how many observations the belief is worth.
SPREAD, SPREAD_WORTH = 0.32, 2.0

#: From a mean absolute deviation to a standard deviation.
NORMAL = 1.25


class Gains(NamedTuple):
    """How much of each difference carries over to the rest, and the spread that remains."""

    pace: float
    recent: float
    straight: float
    spread: float


class Lessons(Struct, frozen=True):
    """What `learn` found.  `weights` are one per course, `stages` one per stage."""

    weights: tuple[float, ...]
    stages: tuple[Gains, ...]
    belief: Gains
    settle: float

    def gains(self, share: float, seen: Comparison) -> Gains:
        """Return the gains for a run at that share of its time, which differs like that."""
        found = between(self.stages, share)
        # Beyond what the past runs showed, the belief is the better guide.
        varied = sum(
            w * (m.pace - seen.mean.pace) ** 2
            for w, m in zip(seen.weights, seen.marks, strict=True)
        )
        known = 3 * (varied / sum(seen.weights) + 0.01)
        trust = min(1.0, known / (seen.pace**2 + 1e-9))
        part = settled(self.settle, share, seen.pace)
        return Gains(
            pace=part * (trust * found.pace + (1 - trust) * self.belief.pace),
            recent=part * (trust * found.recent + (1 - trust) * self.belief.recent),
            straight=part * found.straight,
            spread=found.spread,
        )


def settled(settle: float, share: float, pace: float) -> float:
    """Return how far (0 to 1) a difference in pace is more than chance at that share of time."""
    return share / (share + settle / (1 + (pace / DISTINCT) ** 2) + 1e-9)


def between(stages: Sequence[Gains], share: float) -> Gains:
    after = bisect_left(STAGES, share)
    if after == 0:
        return stages[0]
    if after == len(STAGES):
        return stages[-1]
    part = (share - STAGES[after - 1]) / (STAGES[after] - STAGES[after - 1])
    return Gains(
        *(a + (b - a) * part for a, b in zip(stages[after - 1], stages[after], strict=True))
    )


class Observation(NamedTuple):
    """One past run, held against the others at one stage; `rest` is what there is to explain."""

    causes: tuple[float, float, float]
    rest: float
    weight: float


def learn(courses: Sequence[Course]) -> Lessons:
    """Learn from at least one course, the oldest first."""
    weights = weigh([course.seconds for course in courses])
    belief, settle = believe(courses, weights)
    observed = [observe(courses, weights, settle, stage) for stage in STAGES]
    stages = [
        fit(
            [
                *observed[index],
                *(
                    o._replace(weight=o.weight * NEIGHBOUR)
                    for beside in (index - 1, index + 1)
                    if 0 <= beside < len(STAGES)
                    for o in observed[beside]
                ),
            ],
            observed[index],
            belief,
        )
        for index in range(len(STAGES))
    ]
    return Lessons(weights=tuple(weights), stages=tuple(stages), belief=belief, settle=settle)


def believe(courses: Sequence[Course], weights: Sequence[float]) -> tuple[Gains, float]:
    """Return what to believe before any comparison, and how soon pace settles.

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
        pace=BELIEF_PACE + alike * (1 - BELIEF_PACE - BELIEF_RECENT),
        recent=BELIEF_RECENT,
        straight=straight,
        spread=SPREAD * (0.4 + differ / 0.15),
    )
    return gains, SETTLE * differ / 0.1


def observe(
    courses: Sequence[Course], weights: Sequence[float], settle: float, stage: float
) -> list[Observation]:
    """Hold each run against the others, at a share of its time."""
    observations: list[Observation] = []
    if len(courses) < 2:
        return observations
    for index, course in enumerate(courses):
        fraction = course.fraction_at(stage)
        if fraction <= 0:
            continue
        before = max(0.0, fraction - STRETCH)
        reached = course.reached(fraction)
        present = Present(
            fraction=fraction,
            seconds=reached * course.seconds,
            before=before,
            recent=(reached - course.reached(before)) * course.seconds,
        )
        others = [*courses[:index], *courses[index + 1 :]]
        seen = compare(present, others, [*weights[:index], *weights[index + 1 :]])
        rest = mark(course, fraction, before).rest - seen.mean.rest
        part = settled(settle, stage, seen.pace)
        observations.append(
            Observation(
                causes=(part * seen.pace, part * seen.recent, part * seen.straight),
                rest=clip(rest),
                # An error near the end is a small part of the whole time.
                weight=weights[index] * (1 - reached) ** 2,
            )
        )
    return observations


def fit(observations: list[Observation], here: list[Observation], belief: Gains) -> Gains:
    """Fit the gains to `observations`, near the belief; measure the spread `here`."""
    ridge = (RIDGE_PACE, RIDGE_PACE, RIDGE_STRAIGHT)
    rows = [
        [ridge[i] if i == j else 0.0 for j in range(3)] + [ridge[i] * belief[i]] for i in range(3)
    ]
    for observation in observations:
        values = (*observation.causes, observation.rest)
        for row, cause in zip(rows, observation.causes, strict=True):
            scaled = observation.weight * cause
            for column, value in enumerate(values):
                row[column] += scaled * value
    pace, recent, straight = solve(rows)
    pace, recent = max(-1.3, min(1.3, pace)), max(-1.3, min(1.3, recent))
    straight = max(0.0, min(1.0, straight))
    missed = sum(
        min(2.0, abs(o.rest - pace * o.causes[0] - recent * o.causes[1] - straight * o.causes[2]))
        for o in here
    )
    deviation = (missed * NORMAL + SPREAD_WORTH * belief.spread) / (len(here) + SPREAD_WORTH)
    return Gains(pace=pace, recent=recent, straight=straight, spread=deviation)


def solve(rows: list[list[float]]) -> list[float]:
    """Solve linear equations whose matrix is positive definite; each row ends in its right side."""
    for done, row in enumerate(rows):
        for other in rows[done + 1 :]:
            factor = other[done] / row[done]
            for column in range(done, len(row)):
                other[column] -= factor * row[column]
    for done in reversed(range(len(rows))):
        row = rows[done]
        for later in range(done + 1, len(rows)):
            row[-1] -= row[later] * rows[later][-1]
        row[-1] /= row[done]
    return [row[-1] for row in rows]
