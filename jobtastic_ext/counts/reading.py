"""Reads what all processes have counted."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable

from ..claims.store import Store
from ..keys.call_key import counts_key
from .tally import HOUR
from .words import WORDS

#: Keys that are read in one step of the store.
PAGE = 50

#: Seconds, the longest that is read: the store keeps no more.
LONGEST = 35 * 86_400.0


def read_counts(
    store: Store, key_prefix: str, tasks: Iterable[str], seconds: float
) -> dict[str, dict[str, int]]:
    """Return how often each word of `counts.words` was counted, by task.

    Of whole hours: the present one, and those of the last `seconds`.  Raises `StoreError`.
    """
    now = time.time()
    hours = range(int((now - min(seconds, LONGEST)) // HOUR), int(now // HOUR) + 1)
    found = {task: Counter[str]() for task in tasks}
    wanted = [(task, counts_key(key_prefix, task, hour)) for task in found for hour in hours]
    for start in range(0, len(wanted), PAGE):
        page = wanted[start : start + PAGE]
        for (task, _), counts in zip(page, store.totals([key for _, key in page]), strict=True):
            found[task].update(counts)
    return {task: {word: counts[word] for word in WORDS} for task, counts in found.items()}
