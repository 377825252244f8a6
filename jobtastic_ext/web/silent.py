"""Whether a run should have reported by now, so that what it reported last is not news any more.

Its worker may not reach the result backend, or be dead (which is for its lease to tell), or its
result could not be stored.
"""

from __future__ import annotations

import threading
import time

from msgspec import Struct

from ..progress.run_progress import longest_silence
from .stored import Stored

#: Seconds by which a report may come later than it is due.
ROOM = 2.0

#: The most runs that are kept in mind; the oldest go first.
MOST = 1_000


class Late(Struct, frozen=True):
    """A report that should have had a successor, and when this process has seen it first."""

    elapsed: float
    seen: float


def patience(stored: Stored) -> float:
    """Return within how many seconds of a report there should have been another."""
    return longest_silence(stored.elapsed or 0.0) + ROOM


class Reports:
    """What this process has seen of runs whose reports may be late, by task id."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._late: dict[str, Late] = {}

    def are_late(
        self, task_id: str, stored: Stored, running: float | None = None, slack: float = 1.0
    ) -> bool:
        """Whether there should have been another report by now.

        `running`: seconds that its claim is held, by the store's clock, if that is known; its body
        may have begun later by `slack` seconds.  That clock may have been set, and a machine that
        slept does not count its sleep: who goes on to report is judged by that alone.
        """
        elapsed = stored.elapsed
        if elapsed is None or not stored.renewed:
            return False
        grace = patience(stored) + slack
        if running is not None and running - elapsed < grace:
            self.forget(task_id)
            return False
        now = time.monotonic()
        with self._lock:
            known = self._late.get(task_id)
            if known is not None and known.elapsed == elapsed:
                return now - known.seen >= grace
            at_once = known is None and running is not None
            self._late.pop(task_id, None)
            self._late[task_id] = Late(elapsed, now - grace if at_once else now)
            while len(self._late) > MOST:
                del self._late[next(iter(self._late))]
        return at_once

    def forget(self, task_id: str) -> None:
        """The run has reported in time."""
        if task_id in self._late:
            with self._lock:
                self._late.pop(task_id, None)
