"""Counts of the children of a worker, in memory that they share with its main process.

What a killed child has counted is there still.  The main process makes the table before the pool
forks.  Each child adds in a row of its own, so no lock is needed that a killed child could hold;
the next one with its place goes on in the same row, and the main process reads what was added.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable, Iterator, Sequence
from struct import Struct

from .words import WORDS

NUMBER = Struct("<Q")

#: Bytes of one task in one row.
WIDTH = NUMBER.size * len(WORDS)

PLACES = {word: place * NUMBER.size for place, word in enumerate(WORDS)}


class SharedCounts:
    """Rows for children, columns for tasks.  `row` says which one a child has."""

    def __init__(self, tasks: Sequence[str], rows: int, row: Callable[[], int]) -> None:
        self._columns = {task: column * WIDTH for column, task in enumerate(tasks)}
        self._rows, self._row = rows, row
        self._length = max(len(tasks) * WIDTH, 1)
        self._map = mmap.mmap(-1, rows * self._length)
        self._seen = bytes(rows * self._length)
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
        if column is None or os.getppid() != self._owner or self._row() >= self._rows:
            return False
        at = self._row() * self._length + column + PLACES[word]
        (count,) = NUMBER.unpack_from(self._map, at)
        NUMBER.pack_into(self._map, at, count + number)
        return True

    def news(self) -> Iterator[tuple[str, str, int]]:
        """Yield task, word and number of what was added since the last time."""
        now, before = self._map[:], self._seen
        self._seen = now
        for row in range(0, len(now), self._length):
            if now[row : row + self._length] == before[row : row + self._length]:
                continue
            for task, column in self._columns.items():
                for word, place in PLACES.items():
                    at = row + column + place
                    ((new,), (old,)) = NUMBER.unpack_from(now, at), NUMBER.unpack_from(before, at)
                    if new != old:
                        yield task, word, new - old

    def close(self) -> None:
        """Let go of the memory here; other processes keep theirs."""
        self._map.close()
