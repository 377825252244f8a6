"""Whether a run counts as lost: nothing has been heard of it, though it could have been.

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
from ..progress.run_progress import longest_silence
from ..resilience.per_process import per_process
from ..runtime import Runtime
from .stored import Stored

#: The attribute of an app that holds what is known of its runs.
ATTRIBUTE = "_jobtastic_verdicts"

#: Seconds for which the store has to have answered before a lease that is over tells anything.
#: After an outage a keeper finds the store within a second, and renews at its next look, half a
#: second later, each within the time that a call of the store may take.
RENEWS = 3.0

#: Seconds after which a page asks again about a run that may be lost.
ASK_AGAIN = 2.0

#: Seconds by which a report may come later than it is due.
ROOM = 2.0

#: The most runs that are kept in mind; the oldest go first.
MOST = 1_000


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


ALIVE, MAYBE = Verdict("alive"), Verdict("maybe")


class Verdicts:
    """What this process has seen of runs whose lease is over."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._suspects: dict[str, Suspect] = {}

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
            return ALIVE
        holder = claim.run_of(task_id) if claim is not None else None
        if holder is None or holder.state != "running" or now < holder.until:
            return self._clear(key)
        report = hash(bytes(stored.result))
        with self._lock:
            known = self._suspects.get(key)
            if known is not None and (known.until, known.report) == (holder.until, report):
                silence = longest_silence(stored.elapsed or 0.0) + ROOM
                grace = max(RENEWS + 4 * runtime.settings.store_timeout, silence)
                if began - known.seen < grace:
                    return MAYBE
                return Verdict("lost", round(known.heard / 1000, 1))
            # Whoever goes on to report reaches the backend, and is alive.
            heard = holder.until - round(runtime.settings.lease * 1000) if known is None else now
            self._suspects.pop(key, None)
            self._suspects[key] = Suspect(holder.until, report, time.monotonic(), heard)
            while len(self._suspects) > MOST:
                del self._suspects[next(iter(self._suspects))]
        return MAYBE

    def _clear(self, key: str) -> Verdict:
        if key in self._suspects:
            with self._lock:
                self._suspects.pop(key, None)
        return ALIVE


def verdicts_of(app: Celery) -> Verdicts:
    """Return what this process knows of the runs of an app."""
    own: Callable[[], Verdicts] = vars(app).setdefault(ATTRIBUTE, per_process(Verdicts))
    return own()
