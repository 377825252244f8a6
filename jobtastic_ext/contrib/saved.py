"""Turns runs that there were not into seconds, away from the calls."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from ..errors import JobtasticError
from ..progress.workflow import typical_lengths
from ..resilience.per_process import per_process, start_daemon
from ..runtime import runtime_of

logger = logging.getLogger("jobtastic_ext")

#: Seconds between two looks at how long runs take.
PAUSE = 10.0

#: Looks with nothing to turn after which the thread ends.
IDLE = 6


class Pending:
    """Of one process: how many runs of which task were avoided since the last look."""

    def __init__(self) -> None:
        # A handler of a signal, or of the garbage collector, may add in the middle of this.
        self.lock = threading.RLock()
        self.runs: Counter[tuple[Any, str]] = Counter()
        self.works = False
        #: When a thread may be tried again, after one could not be started.
        self.retry = 0.0
        self.stopped = threading.Event()


class Saved:
    """Tells how many seconds were saved: `give(task, seconds)`, every few seconds."""

    def __init__(self, give: Callable[[str, float], object]) -> None:
        self._give = give
        self._pending = per_process(Pending)

    def add(self, task: Any, runs: int) -> None:
        """So many runs of the task were avoided; there is nothing to wait for here."""
        pending = self._pending()
        with pending.lock:
            pending.runs[task.app, task.name] += runs
            starts = not pending.works and time.monotonic() >= pending.retry
            pending.works = pending.works or starts
        if not starts:
            return
        try:
            start_daemon(self._work, "saved", pending)
        except (RuntimeError, OSError, MemoryError) as error:  # too many, or the interpreter ends
            logger.debug("seconds that were saved are counted later: %s", error)
            with pending.lock:
                pending.works, pending.retry = False, time.monotonic() + PAUSE

    def _work(self, pending: Pending) -> None:
        idle = 0
        while not pending.stopped.wait(PAUSE):
            try:
                turned = self.turn(pending)
            except JobtasticError as error:
                turned = False
                logger.debug("seconds that were saved are counted later: %s", error)
            except Exception:
                turned = False
                logger.exception("seconds that were saved are counted later")
            idle = 0 if turned else idle + 1
            with pending.lock:
                if idle >= IDLE:
                    pending.works = False
                    return

    def close(self) -> None:
        """Tell nothing any more."""
        self._pending().stopped.set()

    def turn(self, pending: Pending) -> bool:
        """Give what can be told now; return whether there was any.  Raises `StoreError`.

        A task of which no run has ended yet waits for the first.
        """
        with pending.lock:
            wanted = {place: runs for place, runs in pending.runs.items() if runs > 0}
        given = False
        for app in {app for app, _ in wanted}:
            runtime = runtime_of(app)
            if runtime is None:
                continue
            names = [name for each, name in wanted if each is app]
            for name, seconds in typical_lengths(runtime.histories, names).items():
                with pending.lock:
                    runs = pending.runs.pop((app, name), 0)
                if runs > 0:
                    self._give(name, runs * seconds)
                    given = True
                elif runs:
                    self.add(app.tasks[name], runs)
        return given
