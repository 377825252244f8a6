"""Whether a run is silent, and counts as lost: nothing is heard of it, though it could be.

It may run on all the same, in a worker that does not reach the store: nobody can tell that from
its death.  So whoever is told "lost" is told since when, and that is taken back.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Literal

from celery import Celery
from msgspec import Struct

from ..errors import StoreError
from ..resilience.per_process import per_process
from ..runtime import Runtime
from .silent import MOST, Reports, patience
from .stored import Stored

#: The attribute of an app that holds what is known of its runs.
ATTRIBUTE = "_jobtastic_verdicts"

#: Seconds for which the store has to have answered before a lease that is over tells anything.
#: After an outage a keeper finds the store within a second, and renews at its next look, half a
#: second later, each within the time that a call of the store may take.
RENEWS = 3.0

#: Seconds after which a page asks again about a run that may be lost.
ASK_AGAIN = 2.0


class Suspect(Struct, frozen=True):
    """A run whose lease was over: until when it had lasted, and what its last report was."""

    until: int
    report: int
    #: By the clock of this process.
    seen: float
    #: Since when nothing has been heard of it: milliseconds, by the store's clock.
    heard: int


class Verdict(Struct, frozen=True):
    """What is known of a run: ``maybe`` lost is to be asked about again in `ASK_AGAIN`."""

    word: Literal["alive", "maybe", "lost"]
    #: ``lost``: since when, in seconds since 1970.
    heard: float = 0.0
    #: There should have been another report by now.
    silent: bool = False


ALIVE = Verdict("alive")


class Verdicts:
    """What this process has seen of runs that are silent, or whose lease is over, by task id."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._suspects: dict[str, Suspect] = {}
        self._reports = Reports()

    def on(self, runtime: Runtime, task_id: str, key: str, stored: Stored) -> Verdict:
        """Return what a run's claim and its last report tell."""
        began = time.monotonic()
        try:
            claim, now = runtime.store.look(key)
        except StoreError:
            # The store has told of it.  Its outage outlasts any lease: what was seen before it
            # tells nothing.
            with self._lock:
                self._suspects.clear()
            return self.without_claim(task_id, stored)
        holder = claim.run_of(task_id) if claim is not None else None
        if holder is None or holder.state != "running":
            self._clear(task_id)
            return self.without_claim(task_id, stored)
        # Between claim and body the store is asked once, and a report may take as long.
        slack = 2 * runtime.settings.store_timeout
        running = (now - holder.at) / 1000
        silent = self._reports.are_late(task_id, stored, running, slack)
        if now < holder.until:
            self._clear(task_id)
            return Verdict("alive", silent=silent)
        report = hash(bytes(stored.result))
        with self._lock:
            known = self._suspects.get(task_id)
            if known is not None and (known.until, known.report) == (holder.until, report):
                grace = max(RENEWS + 4 * runtime.settings.store_timeout, patience(stored))
                if began - known.seen < grace:
                    return Verdict("maybe", silent=silent)
                return Verdict("lost", round(known.heard / 1000, 1))
            # Whoever goes on to report reaches the backend, and is alive.
            heard = holder.until - round(runtime.settings.lease * 1000) if known is None else now
            self._suspects.pop(task_id, None)
            self._suspects[task_id] = Suspect(holder.until, report, time.monotonic(), heard)
            while len(self._suspects) > MOST:
                del self._suspects[next(iter(self._suspects))]
        return Verdict("maybe", silent=silent)

    def without_claim(self, task_id: str, stored: Stored) -> Verdict:
        """Return what the last report of a run tells by itself."""
        return Verdict("alive", silent=self._reports.are_late(task_id, stored))

    def _clear(self, task_id: str) -> None:
        if task_id in self._suspects:
            with self._lock:
                self._suspects.pop(task_id, None)


def verdicts_of(app: Celery) -> Verdicts:
    """Return what this process knows of the runs of an app."""
    own: Callable[[], Verdicts] = vars(app).setdefault(ATTRIBUTE, per_process(Verdicts))
    return own()
