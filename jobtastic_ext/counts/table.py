"""Counts of the children of a worker, in memory that they share with its main process.

What a killed child has counted is there still.  The main process makes the table before the pool
forks.  Each child adds in a row of its own, so no lock is needed that a killed child could hold;
the next one with its place goes on in the same row, and the main process reads what was added.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable, Iterator, Sequence
from struct import calcsize
from typing import Final

from .words import WORDS

#: A number, as the machine writes it: in one step, so that nobody reads half of one.
NUMBER: Final = "Q"

#: Numbers of one task in one row.
WIDTH = len(WORDS)

PLACES = {word: place for place, word in enumerate(WORDS)}


class SharedCounts:
    """Rows for children, columns for tasks.  `row` says which one a child has, if any."""

    def __init__(self, tasks: Sequence[str], rows: int, row: Callable[[], int | None]) -> None:
        self._columns = {task: column * WIDTH for column, task in enumerate(tasks)}
        self._rows, self._row = rows, row
        self._length = max(len(tasks) * WIDTH, 1)
        size = rows * self._length * calcsize(NUMBER)
        self._map = mmap.mmap(-1, size)
        self._numbers = memoryview(self._map).cast(NUMBER)
        self._seen = memoryview(bytes(size)).cast(NUMBER)
        self._owner = os.getpid()

    @property
    def is_own(self) -> bool:
        """Whether this is the process that made it, and reads it."""
        return os.getpid() == self._owner

    def add(self, task: str, word: str, number: int) -> bool:
        """Add to a count; False in a process that is no child of the pool, or has no place here.

        One thread of a process at a time.
        """
        column = self._columns.get(task)
        # A child of a child has its parent's place.
        row = self._row() if column is not None and os.getppid() == self._owner else None
        if column is None or row is None or row >= self._rows:
            return False
        self._numbers[row * self._length + column + PLACES[word]] += number
        return True

    def news(self) -> Iterator[tuple[str, str, int]]:
        """Yield task, word and number of what was added since the last time."""
        now, before = memoryview(self._numbers.tobytes()).cast(NUMBER), self._seen
        self._seen = now
        for row in range(0, len(now), self._length):
            if now[row : row + self._length] == before[row : row + self._length]:
                continue
            for task, column in self._columns.items():
                for word, place in PLACES.items():
                    at = row + column + place
                    if now[at] != before[at]:
                        yield task, word, now[at] - before[at]

    def close(self) -> None:
        """Let go of the memory here; other processes keep theirs."""
        self._numbers.release()
        self._map.close()
