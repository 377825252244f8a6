"""One run beside past ones, at the same point of the work: in what it differs from them.

All differences are logarithms: 0.1 is 10 % longer, and -0.1 as much shorter.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from .course import Course

#: The latest stretch of work, whose pace is the recent pace.
STRETCH = 0.3

#: Added to times before their logarithm is taken, as shares of the run: what is shorter is noise.
GRAIN, RECENT_GRAIN = 0.0015, 0.002

#: No logarithm counts for more than this.
CAP = 3.0

#: Runs whose logarithms are this far off count half.
NEAR_PACE, NEAR_RECENT = 0.8, 1.2


class Present(NamedTuple):
    """A run so far: fraction and seconds; the fraction and seconds of its latest stretch."""

    fraction: float
    seconds: float
    before: float
    recent: float


class Marks(NamedTuple):
    """Logarithms of a past run's times: to a fraction, over the latest stretch, from there on."""

    pace: float
    recent: float
    rest: float


class Comparison(NamedTuple):
    """A run beside past ones: their weights and marks, how it differs from their mean."""

    weights: list[float]
    marks: list[Marks]
    mean: Marks
    pace: float
    recent: float
    straight: float


def clip(value: float) -> float:
    """Bound a logarithm by `CAP`."""
    return max(-CAP, min(CAP, value))


def mark(course: Course, fraction: float, before: float) -> Marks:
    """Take the times of a past run at `fraction`; its latest stretch begins at `before`."""
    reached = course.reached(fraction)
    return Marks(
        pace=math.log((reached + GRAIN) * course.seconds),
        recent=math.log((reached - course.reached(before) + RECENT_GRAIN) * course.seconds),
        rest=math.log((1 - reached + GRAIN) * course.seconds),
    )


def compare(present: Present, courses: Sequence[Course], weights: Sequence[float]) -> Comparison:
    """Hold a run that has begun work against past ones."""
    marks = [mark(course, present.fraction, present.before) for course in courses]
    length = sum(w * c.seconds for w, c in zip(weights, courses, strict=True)) / sum(weights)
    pace = math.log(present.seconds + GRAIN * length)
    recent = math.log(present.recent + RECENT_GRAIN * length)
    near = [
        w
        / (1 + ((pace - m.pace) / NEAR_PACE) ** 2)
        / (1 + ((recent - m.recent) / NEAR_RECENT) ** 2)
        for w, m in zip(weights, marks, strict=True)
    ]
    total = sum(near)
    mean = Marks(
        *(
            sum(w * x for w, x in zip(near, xs, strict=True)) / total
            for xs in zip(*marks, strict=True)
        )
    )
    ahead = pace - mean.pace
    line = present.seconds * (1 - present.fraction) / present.fraction
    straight = math.log(line + GRAIN * length * math.exp(ahead)) - mean.rest - ahead
    return Comparison(near, marks, mean, clip(ahead), clip(recent - mean.recent), clip(straight))
