"""Whether a run has lost its worker: its lease is over, and nobody could have renewed it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from celery import Celery
from msgspec import Struct

from ..errors import StoreError
from ..resilience.per_process import per_process
from ..runtime import Runtime

#: The attribute of an app that holds what is known of its runs.
ATTRIBUTE = "_jobtastic_verdicts"

#: Seconds for which the store has to have answered before a lease that is over tells anything.
#: After an outage a keeper finds the store within a second, and renews at its next look, half a
#: second later, each within the time that a call of the store may take.
RENEWS = 3.0

#: Seconds after which a page asks again about a run that may be lost.
ASK_AGAIN = 2.0

#: The most runs that are kept in mind; the oldest go first.
MOST = 1_000


class Suspect(Struct, frozen=True):
    """A run whose lease was over: until when it had lasted, and when that was first seen."""

    until: int
    seen: float


class Verdicts:
    """What this process has seen of runs whose lease is over."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._suspects: dict[str, Suspect] = {}

    def on(self, runtime: Runtime, task_id: str, key: str) -> str:
        """Return ``"lost"``, ``"maybe"`` (to be asked again in `ASK_AGAIN`) or ``"alive"``."""
        began = time.monotonic()
        try:
            claim, now = runtime.store.look(key)
        except StoreError:
            # The store has told of it.  Its outage outlasts any lease: what was seen before it
            # tells nothing.
            with self._lock:
                self._suspects.clear()
            return "alive"
        holder = claim.run_of(task_id) if claim is not None else None
        if holder is None or holder.state != "running":
            return self._clear(key)
        if now < holder.until:
            return self._clear(key)
        grace = RENEWS + 4 * runtime.settings.store_timeout
        with self._lock:
            suspect = self._suspects.get(key)
            if suspect is None or suspect.until != holder.until:
                self._suspects.pop(key, None)
                self._suspects[key] = Suspect(until=holder.until, seen=time.monotonic())
                while len(self._suspects) > MOST:
                    del self._suspects[next(iter(self._suspects))]
                return "maybe"
        return "lost" if began - suspect.seen >= grace else "maybe"

    def _clear(self, key: str) -> str:
        if key in self._suspects:
            with self._lock:
                self._suspects.pop(key, None)
        return "alive"


def verdicts_of(app: Celery) -> Verdicts:
    """Return what this process knows of the runs of an app."""
    own: Callable[[], Verdicts] = vars(app).setdefault(ATTRIBUTE, per_process(Verdicts))
    return own()
