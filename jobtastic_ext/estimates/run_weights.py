"""How much past runs count, by their durations alone.

Work changes for good (more data, a slower machine), and now and then a run goes wrong.  Two runs
after a change, those before it hardly count; one run that is like no other counts little.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median

#: The weight of a run beside the one after it.
DECAY = 0.95

#: A new regime is a step of the durations of at least this factor, with this many runs since, so
#: many times as large as chance would have it; runs before it keep this share of their weight.
REGIME_STEP, REGIME_RUNS, REGIME_SURE, OLD_WEIGHT = 1.4, 2, 3.5, 0.05

#: Runs are taken to vary by this much even if they did not so far, and for judging a step by no
#: more than that (both in logarithms): a single run that is far off hides no step.
VARIES, OUTLIES = 0.12, 1.0

#: A run that took this many times as long as every other, or as short, keeps this share of its
#: weight until there is another like it.
LONELY, LONELY_WEIGHT = 3.0, 0.4


def weigh(durations: Sequence[float]) -> list[float]:
    """Weigh the runs, the oldest first: by age, by regime, and whether others are like them."""
    count = len(durations)
    weights = [DECAY ** (count - 1 - index) for index in range(count)]
    logs = [math.log(seconds) for seconds in durations]
    old = new_since(logs)
    for index, one in enumerate(logs):
        if index < old:
            weights[index] *= OLD_WEIGHT
        elif count > 2 and all(
            abs(one - other) > math.log(LONELY) for at, other in enumerate(logs) if at != index
        ):
            weights[index] *= LONELY_WEIGHT
    return weights


def new_since(logs: Sequence[float]) -> int:
    """Return how many runs, the oldest, were before the surest step of the durations; 0 if none."""
    surest, before = REGIME_SURE, 0
    for old in range(1, len(logs) - REGIME_RUNS + 1):
        first, since = logs[:old], logs[old:]
        step = abs(sum(since) / len(since) - sum(first) / old)
        off = [min(OUTLIES, abs(x - median(group))) for group in (first, since) for x in group]
        varies = math.hypot(VARIES, math.sqrt(sum(x * x for x in off) / len(off)))
        sure = step / (varies * math.sqrt(1 / old + 1 / len(since)))
        if step > math.log(REGIME_STEP) and sure > surest:
            surest, before = sure, old
    return before
