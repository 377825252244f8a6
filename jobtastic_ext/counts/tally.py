"""Counts in this process, and brings them to the store every second.

To count in the scripts that run anyway would take a second key, which may be on another server of a
cluster, and would make a write of every join, which is a read in a file or a database.
"""

from __future__ import annotations

import atexit
import itertools
import logging
import os
import threading
import time
import weakref
from collections import Counter
from collections.abc import Mapping
from multiprocessing.util import Finalize

from msgspec import Struct

from ..claims.store import Store
from ..errors import StoreError, StoreUnavailable
from ..keys.call_key import counts_key
from ..resilience.per_process import new_daemon, per_process
from .table import SharedCounts

logger = logging.getLogger("jobtastic_ext")

#: Seconds between two visits to the store, which a killed process loses at most; and the longest,
#: while the store is down.
PAUSE, LONGEST_PAUSE = 1.0, 30.0

#: Visits with nothing to bring after which the thread ends.
IDLE = 30

#: Seconds of one hour, and how long its counts are kept, in milliseconds.
HOUR, KEPT = 3600, 36 * 86_400_000

#: Counts of so many tasks and hours wait at most for a store that is down; the oldest go first.
MOST = 10_000


class Batch(Struct):
    """Counts of one task in one hour that are on their way."""

    key: str
    counts: Mapping[str, int]
    #: By which the store knows that it has them already.
    mark: str


class Pending:
    """What one process has counted and not brought to the store."""

    def __init__(self) -> None:
        # A handler of a signal, or of the garbage collector, may count in the middle of a count.
        self.lock = threading.RLock()
        #: Held by whoever visits the store.
        self.visit = threading.Lock()
        #: Since the last visit, by task and word.
        self.fresh: Counter[tuple[str, str]] = Counter()
        #: By the key of task and hour.
        self.waiting: dict[str, Counter[str]] = {}
        #: Sent, and not known to have arrived.
        self.sent: Batch | None = None
        #: When the store did not answer, if that was the last time; `time.monotonic()`.
        self.failed: float | None = None
        #: Something was counted that a visit has taken, since the thread looked.
        self.busy = False
        self.thread: threading.Thread | None = None
        #: When a thread may be tried again, after one could not be started.
        self.retry = 0.0
        self.closed = threading.Event()
        #: Who brings it, and how many times: what a mark is made of.
        self.writer, self.numbers = os.urandom(6).hex(), itertools.count(1)


class Tally:
    """Counts words of tasks."""

    def __init__(self, store: Store, key_prefix: str, timeout: float = 0.5) -> None:
        self._store, self._prefix = store, key_prefix
        #: Seconds that the last visit may take: what the store may take for one answer.
        self._timeout = timeout
        self._pending = per_process(Pending)
        self._at_exit: dict[int, object] = {}
        self._table: SharedCounts | None = None

    def count(self, task: str, word: str, number: int = 1) -> None:
        """Add to the count of a word of `counts.words`.  No trouble with it is the caller's."""
        pending = self._pending()
        with pending.lock:
            if self._table is not None and self._table.add(task, word, number):
                return
            pending.fresh[task, word] += number
        if pending.thread is None:
            self._start(pending)

    def share(self, table: SharedCounts) -> None:
        """Have the children of this process count in `table`.  Before they are forked."""
        self._table = table

    def watch(self) -> None:
        """Bring what children count to the store, from now on."""
        if self._table is not None:
            self._start(self._pending())

    def _start(self, pending: Pending) -> None:
        self._flush_at_exit()
        with pending.lock:
            if pending.thread is not None or time.monotonic() < pending.retry:
                return
            thread = pending.thread = new_daemon(self._run, "counts", pending)
        try:
            # Not under the lock: it waits, and whoever interrupts it may count.
            thread.start()
        except (RuntimeError, OSError, MemoryError) as error:  # too many, or the interpreter ends
            logger.debug("no thread brings counts to the store now: %s", error)
            with pending.lock:
                pending.thread, pending.retry = None, time.monotonic() + PAUSE

    def flush(self) -> bool:
        """Bring to the store what has been counted; return whether all of it is there now."""
        pending = self._pending()
        with pending.visit:
            return self._visit(pending, None)

    def flush_last(self) -> bool:
        """Do it before the end, which the store holds up for about one timeout at most."""
        pending, began = self._pending(), time.monotonic()
        if not pending.visit.acquire(timeout=self._timeout):
            return False
        try:
            if pending.failed is not None and pending.failed >= began:
                return False  # the visit that this one has waited for
            return self._visit(pending, began + self._timeout)
        finally:
            pending.visit.release()

    def close(self) -> None:
        """Bring what is left to the store, if it answers, and stop."""
        pending = self._pending()
        pending.closed.set()
        self.flush_last()
        thread = pending.thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(PAUSE)
        with pending.lock:
            table, self._table = self._table, None
            if table is not None:
                table.close()

    def _visit(self, pending: Pending, deadline: float | None) -> bool:
        with pending.lock:
            if self._table is not None and self._table.is_own:
                for task, word, number in self._table.news():
                    pending.fresh[task, word] += number
        gather(pending, self._prefix, int(time.time()) // HOUR)
        try:
            while pending.sent is not None or pending.waiting:
                if deadline is not None and time.monotonic() >= deadline:
                    raise StoreUnavailable("the store is too slow to wait for at the end")
                self._bring_one(pending)
        except StoreUnavailable as error:
            logger.debug("counts are brought to the store later: %s", error)
            pending.failed = time.monotonic()
            return False
        pending.failed = None
        return True

    def _bring_one(self, pending: Pending) -> None:
        if pending.sent is None:
            key, counts = pending.waiting.popitem()
            pending.sent = Batch(key, dict(counts), f"{pending.writer}{next(pending.numbers):08x}")
        batch = pending.sent
        try:
            self._store.add(batch.key, batch.counts, KEPT, batch.mark)
        except StoreUnavailable:
            raise
        except StoreError as error:
            logger.warning("%s: the store refuses counts, which are lost: %s", batch.key, error)
        pending.sent = None

    def _run(self, pending: Pending) -> None:
        pause, idle = PAUSE, 0
        while not pending.closed.wait(pause):
            try:
                done = self.flush()
            except Exception:
                logger.exception("counts are not brought to the store")
                done = False
            pause = PAUSE if done else min(2 * pause, LONGEST_PAUSE)
            with pending.lock:
                counted = pending.busy or pending.fresh or self._table is not None
                idle, pending.busy = 0 if counted else idle + 1, False
                if idle >= IDLE and done:
                    pending.thread = None
                    return

    def _flush_at_exit(self) -> None:
        """Bring what is left to the store when the process ends, other than by a signal."""
        pid = os.getpid()
        if pid in self._at_exit:
            return
        itself, gave_up = weakref.ref(self), False

        def flush() -> None:
            nonlocal gave_up
            tally = itself()
            if tally is None or os.getpid() != pid or gave_up:
                return
            try:
                gave_up = not tally.flush_last()
            except RuntimeError as error:  # a driver that needs a thread, when none can start
                logger.debug("the last counts are lost: %s", error)

        atexit.register(flush)
        # A child of `multiprocessing` ends without the former.
        self._at_exit[pid] = Finalize(None, flush, exitpriority=0)


def gather(pending: Pending, prefix: str, hour: int) -> None:
    """Have what was counted since the last visit wait under the keys of its tasks and this hour."""
    with pending.lock:
        fresh, pending.fresh = pending.fresh, Counter()
        pending.busy = pending.busy or bool(fresh)
    for (task, word), number in fresh.items():
        key = counts_key(prefix, task, hour)
        pending.waiting.setdefault(key, Counter())[word] += number
    while len(pending.waiting) > MOST:
        oldest = next(iter(pending.waiting))
        logger.warning("too much was counted while the store is down; lost: %s", oldest)
        del pending.waiting[oldest]
