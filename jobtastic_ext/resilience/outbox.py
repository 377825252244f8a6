"""What an outage kept from being written is written as soon as the servers are back.

A caller that gave a message up has to say so, to the store (lest the message run after all) and to
the result backend (lest a page wait for ever).  If they are down as well, that is done here.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable

from msgspec import Struct

from ..errors import ResultsUnavailable, StoreError
from .per_process import start_daemon
from .redaction import in_log

logger = logging.getLogger("jobtastic_ext")

#: Seconds between two attempts.
PAUSE = 0.1

#: The most that is remembered, in number and in bytes; of more, the oldest is dropped.
MOST = 10_000
MOST_BYTES = 16_000_000


class Debt(Struct):
    """Something to be written, and when it is not worth writing any more (`time.monotonic`)."""

    what: str
    write: Callable[[], object]
    until: float
    #: Bytes.
    size: int


class Outbox:
    """Writes in the order given, from a thread of its own, which ends when nothing is left.

    Of one process (see `per_process`): what the parent owes, the parent writes.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._debts: deque[Debt] = deque()
        self._size = 0
        #: How many were too much, since all was written.
        self._dropped = 0
        self._writes = False

    def later(
        self, what: str, write: Callable[[], object], seconds: float, size: int = 1_000
    ) -> None:
        """Call `write` until it succeeds, for at most `seconds`; `what` is for the log.

        `size` is about how many bytes are kept by that.
        """
        with self._lock:
            self._debts.append(Debt(what, write, time.monotonic() + seconds, size))
            self._size += size
            while len(self._debts) > MOST or self._size > MOST_BYTES:
                self._drop()
            if self._writes:
                return
            self._writes = True
        start_daemon(self._run, "outbox")

    def close(self) -> None:
        """Stop; what is left is lost."""
        self._closed.set()

    def _run(self) -> None:
        while not self._closed.wait(PAUSE):
            self._write_all()
            with self._lock:
                now = time.monotonic()
                while self._debts and self._debts[0].until < now:
                    logger.warning("not written in time: %s", self._take_first().what)
                if not self._debts:
                    if self._dropped > 1:
                        logger.warning("%d in all were too much to be written", self._dropped)
                    self._writes, self._dropped = False, 0
                    return

    def _write_all(self) -> None:
        while self._debts:
            debt = self._debts[0]
            try:
                debt.write()
            except (StoreError, ResultsUnavailable):
                return
            except Exception as error:  # noqa: BLE001 - the others are written all the same
                logger.warning("not written: %s: %s", debt.what, in_log(error))
            else:
                logger.info("written after the outage: %s", debt.what)
            with self._lock:
                if self._debts and self._debts[0] is debt:
                    self._take_first()

    def _take_first(self) -> Debt:
        debt = self._debts.popleft()
        self._size -= debt.size
        return debt

    def _drop(self) -> None:
        debt = self._take_first()
        self._dropped += 1
        if self._dropped == 1:
            logger.warning("too much to write after the outage, oldest first: %s", debt.what)
