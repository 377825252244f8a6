"""How long still: time remaining from how this run goes and how earlier ones went.  Pure.

    history = History()
    history = history.record(samples, total=61.5)    # when a run has succeeded
    estimate(history, samples)                       # Estimate(seconds=40.2, low=35.0, high=51.7)

`samples` are ``(elapsed seconds, fraction 0..1)``, the latest being now; the same fraction may be
given again, since time spent without progress tells something too.

Each past run, aligned where the present one is, makes a guess: its own rest, times what the
present run's pace says according to `lessons`.  A run that left this point sooner than the present
one fits less and less.  The guesses, each with a spread, make a distribution; `low` and `high`
are its 10 % and 90 % quantiles.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from functools import lru_cache

from msgspec import Struct

from .course import LONGEST, Course, Sample, draw, pack, tidy, unpack
from .extrapolation import extrapolate
from .lessons import Lessons, learn
from .similarity import STRETCH, Present, clip, compare

#: Past runs that are kept.
MOST_RUNS = 12

#: Samples that `thin` leaves as they are.
ENOUGH_SAMPLES = 256

#: Spread of a guess before any work is done, from one past run; from n it is 1 / sqrt(n).
FIRST_SPREAD = 0.45

#: How much of the spread the guesses need not show between them, and the least of one.
OWN_SPREAD, LEAST_SPREAD = 0.9, 0.02

#: A run that stands still for longer than a past one did: how much of the excess is still to come,
#: and the excess, as shares of that stay and of the whole run, that halves the belief in that run.
OVERSTAY, PATIENCE, PATIENCE_RUN = 0.6, 0.25, 0.04

#: A normal distribution in five parts: deviation, weight.
PARTS = ((-1.5, 0.12), (-0.6, 0.23), (0.0, 0.3), (0.6, 0.23), (1.5, 0.12))

#: Before the first report, a past run counts as standing still until this fraction.
FIRST_STEP = 0.02

#: A task that never reports is shown its percent in a straight line to here, then ever slower.
STRAIGHT_UNTIL, MOST_PERCENT = 0.9, 99.0


class Estimate(Struct, frozen=True):
    """Seconds remaining with their 10 % and 90 % quantiles; -1 and None when nothing is known."""

    seconds: float
    low: float | None
    high: float | None


class History(Struct, frozen=True):
    """The past runs of a task, the latest few, in some hundred bytes.  Never changes."""

    packed: bytes = b""

    def record(self, samples: Iterable[Sequence[float]], total: float) -> History:
        """Return the history with one more finished run, of `total` seconds.

        A total that is no finite number of seconds is left out.
        """
        if not 0 <= total < math.inf:
            return self
        runs = (*courses(self.packed), draw(samples, total))
        return History(packed=pack(runs[-MOST_RUNS:]))

    def encode(self) -> bytes:
        """Return the history as bytes, 600 or so when it is full."""
        return self.packed

    @classmethod
    def decode(cls, data: bytes | None) -> History:
        """Return the history that `encode` gave; an empty one for anything else."""
        try:
            return cls(packed=bytes(data)) if data and unpack(data) else cls()
        except ValueError:
            return cls()

    @property
    def runs(self) -> int:
        """How many runs it holds, at most `MOST_RUNS`."""
        return len(courses(self.packed))


@lru_cache(maxsize=64)
def courses(packed: bytes) -> tuple[Course, ...]:
    return unpack(packed) if packed else ()


@lru_cache(maxsize=64)
def lessons(packed: bytes) -> Lessons:
    return learn(courses(packed))


def estimate(history: History, samples: Iterable[Sequence[float]]) -> Estimate:
    """Return how many seconds the run that made these samples will still take."""
    told = tidy(samples)
    now = told[-1][0]
    reports = advances(told)
    if not history.packed:
        known = extrapolate(reports, now)
        return Estimate(*known) if known else Estimate(-1.0, None, None)
    return summary(guesses(history, reports, now))


def thin(samples: list[Sample]) -> list[Sample]:
    """Return the samples, or every second of them and the latest once there are many.

    For whoever collects them: the list stays bounded, and later samples stay as dense as earlier.
    """
    return samples if len(samples) <= ENOUGH_SAMPLES else [*samples[:-1:2], samples[-1]]


def percent(history: History, elapsed: float) -> float | None:
    """Return the percent (0 to below 100, never falling) of a run known by its time alone.

    None when nothing is known.
    """
    if not history.packed or not elapsed >= 0:
        return None
    weights = lessons(history.packed).weights
    shares = [whole(elapsed / run.seconds) for run in courses(history.packed)]
    done = sum(w * share for w, share in zip(weights, shares, strict=True)) / sum(weights)
    return min(MOST_PERCENT, 100 * done)


def whole(share: float) -> float:
    """Bend a share of the usual time so that it stays below 1."""
    rest = 1 - STRAIGHT_UNTIL
    if share <= STRAIGHT_UNTIL:
        return share
    return 1 - rest * math.exp((STRAIGHT_UNTIL - share) / rest)


def advances(told: list[Sample]) -> list[Sample]:
    """Keep the first sample of each fraction."""
    kept = [told[0]]
    for sample in told:
        if sample[1] > kept[-1][1]:
            kept.append(sample)
    return kept


class Guess(Struct):
    """What one past run says: seconds still to come, how much it counts, its own spread."""

    seconds: float
    weight: float
    spread: float = 0.0


def guesses(history: History, reports: Sequence[Sample], now: float) -> list[Guess]:
    """Let each past run guess."""
    runs, learnt = courses(history.packed), lessons(history.packed)
    since, fraction = reports[-1]
    waited = now - since
    step = fraction - reports[-2][1] if len(reports) > 1 else FIRST_STEP
    starts = [run.reached(fraction) for run in runs]
    stays = [run.left(min(1.0, fraction + step)) for run in runs]
    begun = fraction > 0 and len(reports) > 1
    if begun:
        # That the work goes on in a straight line is doubted once the next report is overdue.
        due = since * step / fraction
        belief = likelihood(waited - due, due, now)
        weights, factors, spread = aligned(runs, learnt, reports, starts, belief)
    else:
        weights, factors, spread = list(learnt.weights), [1.0] * len(runs), 0.0
    found = [
        guess(run.seconds * factor, start, stay, waited, weight)
        for run, factor, start, stay, weight in zip(
            runs, factors, starts, stays, weights, strict=True
        )
    ]
    own = widen(found, runs, spread, begun)
    for each in found:
        each.spread = math.hypot(own, each.spread)
    return found


def aligned(
    runs: Sequence[Course],
    learnt: Lessons,
    reports: Sequence[Sample],
    starts: Sequence[float],
    belief: float,
) -> tuple[list[float], list[float], float]:
    """Return each run's weight and the factor on its times; the spread that was learnt."""
    since, fraction = reports[-1]
    start = bisect_left([f for _, f in reports], max(0.0, fraction - STRETCH))
    then, before = reports[min(start, len(reports) - 2)]
    present = Present(fraction, since, before, since - then)
    seen = compare(present, runs, learnt.weights)
    total = sum(seen.weights)
    share = sum(w * s for w, s in zip(seen.weights, starts, strict=True)) / total
    gains = learnt.gains(share, seen)
    factors = [
        math.exp(
            clip(
                gains.pace * (seen.pace + seen.mean.pace - m.pace)
                + gains.recent * (seen.recent + seen.mean.recent - m.recent)
            )
            + gains.straight * belief * seen.straight
        )
        for m in seen.marks
    ]
    return seen.weights, factors, gains.spread


def likelihood(excess: float, stay: float, length: float) -> float:
    """Return how likely (1 to 0) a stay is exceeded by so many seconds, in so long a run."""
    patience = PATIENCE * stay + PATIENCE_RUN * length
    return math.exp(-excess / (patience + 1e-9)) if excess > 0 else 1.0


def guess(length: float, start: float, stay: float, waited: float, weight: float) -> Guess:
    """Let one run of that length guess, which stood here between two shares of its time."""
    excess = waited - (stay - start) * length
    if excess <= 0:
        return Guess(max(0.0, (1 - start) * length - waited), weight)
    seconds = (1 - stay) * length + OVERSTAY * excess
    likely = max(0.02, likelihood(excess, (stay - start) * length, length))
    return Guess(seconds, weight * likely, OVERSTAY * excess / (seconds + 1e-9))


def widen(found: list[Guess], runs: Sequence[Course], spread: float, begun: bool) -> float:
    """Return the spread of each guess, so that all together have the spread that was learnt."""
    if not begun:
        return max(LEAST_SPREAD, FIRST_SPREAD / math.sqrt(len(found) + 0.5))
    total = mean = square = 0.0
    for each, run in zip(found, runs, strict=True):
        value = math.log(each.seconds + 0.02 * run.seconds)
        total += each.weight
        mean += each.weight * value
        square += each.weight * value * value
    shown = max(0.0, square / total - (mean / total) ** 2)
    return math.sqrt(max(LEAST_SPREAD**2, OWN_SPREAD * spread * spread - shown))


def summary(found: Iterable[Guess]) -> Estimate:
    """Put the guesses together."""
    parts = sorted(
        (min(each.seconds * math.exp(deviation * each.spread), LONGEST), each.weight * share)
        for each in found
        for deviation, share in PARTS
    )
    low, *middle, high = quantiles(parts, (0.1, 0.3, 0.4, 0.5, 0.6, 0.7, 0.9))
    # Of a few guesses this is a steadier middle than the median itself.
    return Estimate(max(low, min(sum(middle) / len(middle), high)), low, high)


def quantiles(parts: list[tuple[float, float]], shares: tuple[float, ...]) -> list[float]:
    """Return quantiles of sorted (value, weight), straight lines between the middles of weights."""
    total = sum(weight for _, weight in parts)
    found: list[float] = []
    value, place, below = parts[0][0], 0.0, 0.0
    for each, weight in parts:
        middle = below + weight / 2
        while len(found) < len(shares) and shares[len(found)] * total <= middle:
            part = (shares[len(found)] * total - place) / (middle - place) if middle > place else 1
            found.append(value + (each - value) * part)
        value, place, below = each, middle, below + weight
    return found + [value] * (len(shares) - len(found))
