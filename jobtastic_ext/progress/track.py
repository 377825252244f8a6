"""`track`: progress of a loop, without counting by hand."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

from .run_progress import Frame, Progress, count, shortened, total_of

T = TypeVar("T")

#: Seconds between two looks at the clock, about, and the most items between them.
GLANCE, MOST_STRIDE = 0.005, 1_000


def size_of(iterable: Any) -> int | None:
    """Return how many items there are to come, if that is known without taking them."""
    try:
        hint = operator.length_hint(iterable, -1)
    except (AttributeError, NotImplementedError, OverflowError, TypeError, ValueError):
        return None
    return None if hint < 0 else hint


def tracked(
    run: Progress, iterable: Iterable[T], total: Any, frequency: Any, message: str | None
) -> Iterator[T]:
    """Yield every item of `iterable`, and tell `run` of each that is done.

    An item is done when the next one is asked for.
    """
    if run.closed:
        yield from iterable
        return
    whole = size_of(iterable) if total is None else run.read(total_of, total, None)
    every = 0 if frequency is None else run.read(count, frequency, 0)
    frame = Frame(whole)
    text = run.read(shortened, message, None)
    if text is not None:
        run.message = text
    run.enter(frame)
    clock, finished = run.clock, False
    n, look, stride, before = 0, 0, 1, run.clock()
    try:
        for item in iterable:
            yield item
            n += 1
            frame.n = n
            if run.latest is not None:
                run.forget_counts()
            if n < look or (every > 1 and n % every):
                continue
            now = clock()
            if now >= run.due:
                run.step()
            # The clock costs more than all the rest, so it is read about every `GLANCE` seconds.
            stride = min(2 * stride, MOST_STRIDE) if now - before < GLANCE else max(1, stride // 4)
            look, before = n + stride, now
        finished = True
    finally:
        run.leave(frame, finished)
