"""The course of one finished run, kept small: share of its time against share of its work.

A `Course` is a polyline of at most `MOST_POINTS` corners.  Time spent on a plateau stays visible in
it, because a plateau has a corner at either end.  Both shares are stored in 12 bits each.
"""

from __future__ import annotations

import math
import struct
import zlib
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from heapq import heappop, heappush
from itertools import pairwise

from msgspec import Struct

#: Seconds since the start, and the fraction of the work done (0 to 1).
Sample = tuple[float, float]

#: Corners of a course, the two ends not counted.
MOST_POINTS = 16

#: A corner this close to the line without it is left out (share of the run).
TOLERANCE = 0.004

#: The most samples of a run that are looked at; of more, every second, fourth, … is.
MOST_SAMPLES = 512

#: Shares are multiples of 1 / STEPS.
STEPS = 4095

#: The longest and the shortest run that is told apart, in seconds.
LONGEST, SHORTEST = 1e9, 1e-6

HEADER = struct.Struct("<2sI")
MAGIC = b"j1"
RUN = struct.Struct("<fB")


class Course(Struct, frozen=True):
    """What is kept of one run.  `times` and `fractions` are equally long, rise from 0 to 1."""

    seconds: float
    times: tuple[float, ...]
    fractions: tuple[float, ...]

    def reached(self, fraction: float) -> float:
        """Return the share of the run's time after which `fraction` was first reached."""
        # In the steps of the stored corners: otherwise a rounded plateau would be passed over.
        fraction = round(fraction * STEPS) / STEPS
        after = bisect_left(self.fractions, fraction)
        return 0.0 if after == 0 else between(self.fractions, self.times, after, fraction)

    def left(self, fraction: float) -> float:
        """Return the share of the run's time after which `fraction` was exceeded, or the end."""
        fraction = round(fraction * STEPS) / STEPS
        after = bisect_right(self.fractions, fraction)
        if after == len(self.fractions):
            return 1.0
        return between(self.fractions, self.times, after, fraction)

    def fraction_at(self, time: float) -> float:
        """Return the fraction of the work that was done after that share of the time."""
        after = bisect_right(self.times, time)
        if after == len(self.times):
            return 1.0
        return between(self.times, self.fractions, after, time)


def between(xs: Sequence[float], ys: Sequence[float], after: int, x: float) -> float:
    """Interpolate on the stretch that ends at corner `after`."""
    x0, y0 = xs[after - 1], ys[after - 1]
    width = xs[after] - x0
    return y0 + (ys[after] - y0) * ((x - x0) / width) if width > 0 else ys[after]


def tidy(samples: Iterable[Sequence[float]]) -> list[Sample]:
    """Return the samples with finite numbers, in 0..1, where neither time nor fraction falls.

    Begins with (0, 0) unless a sample of time 0 stands there.
    """
    given = samples if isinstance(samples, list) else list(samples)
    if len(given) > MOST_SAMPLES:
        stride = -(-len(given) // MOST_SAMPLES)
        given = [*given[:-1:stride], given[-1]]
    tidied: list[Sample] = []
    latest = most = 0.0
    for elapsed, fraction in given:
        # False for NaN, too.
        if not 0 <= elapsed <= LONGEST or not -LONGEST <= fraction <= LONGEST:
            continue
        if elapsed > latest:
            latest = elapsed
        if fraction > most:
            most = fraction if fraction < 1 else 1.0
        tidied.append((latest, most))
    if not tidied or tidied[0][0] > 0:
        tidied.insert(0, (0.0, 0.0))
    return tidied


def draw(samples: Iterable[Sequence[float]], total: float) -> Course:
    """Draw the course of a run of `total` seconds that made these reports.

    Between the last report and the end the line is straight; a run without any report stays at 0
    until its end.
    """
    seconds = min(max(total, SHORTEST), LONGEST)
    corners = [(min(t / seconds, 1.0), f) for t, f in tidy(samples)]
    if corners[-1][1] == 0:
        corners.append((1.0, 0.0))
    corners.append((1.0, 1.0))
    if corners[0] != (0.0, 0.0):
        corners.insert(0, (0.0, 0.0))
    kept = [(round(t * STEPS) / STEPS, round(f * STEPS) / STEPS) for t, f in thinned(corners)]
    return Course(
        seconds=single(seconds),
        times=tuple(t for t, _ in kept),
        fractions=tuple(f for _, f in kept),
    )


def single(number: float) -> float:
    """Round to the single precision in which a duration is stored."""
    (rounded,) = struct.unpack("<f", struct.pack("<f", number))
    return float(rounded)


def thinned(corners: Sequence[Sample]) -> list[Sample]:
    """Keep both ends and the corners that matter most (Ramer, Douglas and Peucker)."""
    last = len(corners) - 1
    kept = {0, last}
    heap = [farthest(corners, 0, last)]
    while heap and len(kept) < MOST_POINTS + 2:
        distance, corner, first, final = heappop(heap)
        if -distance < TOLERANCE:
            break
        kept.add(corner)
        heappush(heap, farthest(corners, first, corner))
        heappush(heap, farthest(corners, corner, final))
    return [corners[index] for index in sorted(kept)]


def farthest(corners: Sequence[Sample], first: int, final: int) -> tuple[float, int, int, int]:
    """Find the corner farthest from a straight line; give its distance below zero."""
    (x, y), (x_final, y_final) = corners[first], corners[final]
    run, rise = x_final - x, y_final - y
    length = math.hypot(run, rise) or 1.0
    best, where = 0.0, first
    for index in range(first + 1, final):
        distance = abs((corners[index][0] - x) * rise - (corners[index][1] - y) * run) / length
        if distance > best:
            best, where = distance, index
    return -best, where, first, final


def pack(courses: Sequence[Course]) -> bytes:
    """Write courses as bytes, some 50 each."""
    body = b"".join(chunks(courses))
    return HEADER.pack(MAGIC, zlib.crc32(body)) + body


def chunks(courses: Sequence[Course]) -> Iterator[bytes]:
    for course in courses:
        inner = list(zip(course.times, course.fractions, strict=True))[1:-1]
        yield RUN.pack(course.seconds, len(inner))
        for time, fraction in inner:
            yield (round(time * STEPS) << 12 | round(fraction * STEPS)).to_bytes(3, "little")


def unpack(data: bytes) -> tuple[Course, ...]:
    """Read what `pack` wrote.  Raises ValueError for anything else."""
    try:
        magic, checksum = HEADER.unpack_from(data)
        body = bytes(data[HEADER.size :])
        if magic != MAGIC or checksum != zlib.crc32(body):
            raise ValueError("not a packed history, or a damaged one")
        return tuple(read_all(body))
    except (struct.error, TypeError) as error:
        raise ValueError("not a packed history") from error


def read_all(body: bytes) -> Iterator[Course]:
    offset = 0
    while offset < len(body):
        seconds, count = RUN.unpack_from(body, offset)
        offset += RUN.size
        corners = [(0.0, 0.0)]
        for start in range(offset, offset + 3 * count, 3):
            both = int.from_bytes(body[start : start + 3], "little")
            corners.append(((both >> 12) / STEPS, (both & STEPS) / STEPS))
        offset += 3 * count
        corners.append((1.0, 1.0))
        rising = all(a <= c and b <= d for (a, b), (c, d) in pairwise(corners))
        if offset > len(body) or not rising or not 0 < seconds <= 2 * LONGEST:
            raise ValueError("a packed history that contradicts itself")
        yield Course(
            seconds=seconds,
            times=tuple(t for t, _ in corners),
            fractions=tuple(f for _, f in corners),
        )
