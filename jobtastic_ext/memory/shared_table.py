"""What each process of a worker has seen of its tasks' memory, in memory that they all share.

The worker's main process makes the table before the pool forks, so it costs no file, no pipe and
no server, and what a child wrote outlives the child.  Each child writes a row of its own, so no
lock is needed that a killed child could hold; a counter tells a reader of a half-written record.

Layout: rows of columns (one per watched task) of `RECORD`.  Only the pages that are
written to take memory.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Sequence

from msgspec import Struct
from msgspec.structs import astuple

RECORD = struct.Struct("<IIQddddIIdd")
COUNTER = struct.Struct("<I")
SIZE = RECORD.size

#: How often a reader looks at a record that is being written.
TRIES = 50


class Entry(Struct):
    """One task in one process.  MB, except where it says otherwise."""

    pid: int = 0
    runs: int = 0
    #: Of resident memory, over all runs, and in the run with the most.
    growth: float = 0.0
    largest: float = 0.0
    #: What a run retains at present.
    per_run: float = 0.0
    #: Of the last report: growth in its run or window; 0 and `told_per_run` 0: none yet.
    told_growth: float = 0.0
    reports: int = 0
    told_runs: int = 0
    told_per_run: float = 0.0
    #: Seconds since the epoch.
    told_at: float = 0.0


class SharedTable:
    """Rows for processes, columns for tasks."""

    def __init__(self, tasks: Sequence[str], rows: int) -> None:
        self.tasks = tuple(tasks)
        self.rows = rows
        self._map = mmap.mmap(-1, max(1, rows * len(self.tasks) * SIZE))

    def write(self, row: int, column: int, entry: Entry) -> None:
        """Put an entry in its place; a row beyond the table is left out."""
        if not 0 <= row < self.rows:
            return
        at = self._at(row, column)
        (count,) = COUNTER.unpack_from(self._map, at)
        COUNTER.pack_into(self._map, at, (count | 1) & 0xFFFFFFFF)
        RECORD.pack_into(self._map, at, (count | 1) & 0xFFFFFFFF, *astuple(entry))
        COUNTER.pack_into(self._map, at, ((count | 1) + 1) & 0xFFFFFFFF)

    def read(self, row: int, column: int) -> Entry | None:
        """Return the entry in a place; None while it is empty, or half-written for good."""
        if not 0 <= row < self.rows:
            return None
        at = self._at(row, column)
        for _ in range(TRIES):
            data = self._map[at : at + SIZE]
            (before,) = COUNTER.unpack_from(data)
            if before % 2 == 0 and COUNTER.unpack_from(self._map, at) == (before,):
                values = RECORD.unpack(data)[1:]
                return Entry(*values) if values[0] else None
        return None

    def entries(self, column: int) -> list[Entry]:
        """Return what all processes say of one task."""
        found = (self.read(row, column) for row in range(self.rows))
        return [entry for entry in found if entry is not None]

    def close(self) -> None:
        """Let go of the memory here; other processes keep theirs."""
        self._map.close()

    def _at(self, row: int, column: int) -> int:
        return (row * len(self.tasks) + column) * SIZE
