"""What an outage kept from being written is written as soon as the servers are back.

A caller that gave a message up has to say so, to the store (lest the message run after all) and to
the result backend (lest a page wait for ever).  If they are down as well, that is done here.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable

from msgspec import Struct

from .errors import ResultsUnavailable, StoreError

__all__ = ("Aftermath",)

logger = logging.getLogger("jobtastic_ext")

#: Seconds between two attempts.
PAUSE = 0.1

#: The most that is remembered; of more, the oldest is dropped, with a warning.
MOST = 10_000


class Debt(Struct):
    """Something to be written, and when it is not worth writing any more (`time.monotonic`)."""

    what: str
    write: Callable[[], object]
    until: float


class Aftermath:
    """Writes in the order given, from a thread of its own, which ends when nothing is left."""

    def __init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._debts: deque[Debt] = deque()
        self._writes = False

    def later(self, what: str, write: Callable[[], object], seconds: float) -> None:
        """Call `write` until it succeeds, for at most `seconds`; `what` is for the log."""
        if self._pid != os.getpid():
            self._reset()  # what the parent owes, the parent writes
        with self._lock:
            if len(self._debts) >= MOST:
                logger.warning("too much to write after the outage: %s", self._debts.popleft().what)
            self._debts.append(Debt(what, write, time.monotonic() + seconds))
            if self._writes:
                return
            self._writes = True
        threading.Thread(target=self._run, name="jobtastic-aftermath", daemon=True).start()

    def close(self) -> None:
        """Stop; what is left is lost."""
        self._closed.set()

    def _run(self) -> None:
        while not self._closed.wait(PAUSE):
            self._write_all()
            with self._lock:
                now = time.monotonic()
                while self._debts and self._debts[0].until < now:
                    logger.warning("not written in time: %s", self._debts.popleft().what)
                if not self._debts:
                    self._writes = False
                    return

    def _write_all(self) -> None:
        while self._debts:
            debt = self._debts[0]
            try:
                debt.write()
            except (StoreError, ResultsUnavailable):
                return
            except Exception as error:  # noqa: BLE001 - the others are written all the same
                logger.warning("not written: %s: %r", debt.what, error)
            else:
                logger.info("written after the outage: %s", debt.what)
            with self._lock:
                if self._debts and self._debts[0] is debt:
                    self._debts.popleft()
