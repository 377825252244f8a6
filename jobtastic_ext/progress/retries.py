"""Which attempt of a task has failed, and when the next begins: Celery keeps neither with RETRY."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from msgspec import Struct

from ..claims.store import Store
from ..errors import StoreError
from ..keys.call_key import retry_key

logger = logging.getLogger("jobtastic_ext")

#: Seconds; who waits for less need not be told.
SHORTEST = 1.0


class Waiting(Struct, frozen=True):
    """A task that waits to be tried again."""

    #: Which attempt has failed, from 1 on.
    attempt: int
    #: Seconds until the next begins.
    seconds: float


class Retries:
    """When the next attempts of an app's tasks are due, kept in the store until they are."""

    def __init__(
        self, store: Store, key_prefix: str, clock: Callable[[], float] = time.time
    ) -> None:
        self._store, self._prefix, self._clock = store, key_prefix, clock

    def note(self, task_id: str, attempt: int, seconds: float) -> None:
        """An attempt has failed, from 1 on, and there will be another in so many seconds."""
        if seconds < SHORTEST:
            return
        key = retry_key(self._prefix, task_id)
        value = b"%d %d" % (round((self._clock() + seconds) * 1000), attempt)
        try:
            # One of an earlier attempt has expired, unless it was tried too soon.
            if not self._store.swap(key, None, value, round(seconds * 1000)):
                (old,) = self._store.load([key])
                self._store.swap(key, old, value, round(seconds * 1000))
        except StoreError as error:
            logger.debug("no page is told when %s is tried again: %s", task_id, error)

    def of(self, task_id: str) -> Waiting | None:
        """Return what is known of a task that waits to be tried again; None if nothing is."""
        try:
            (value,) = self._store.load([retry_key(self._prefix, task_id)])
            due, attempt = (int(word) for word in (value or b"").split())
        except (StoreError, ValueError):
            return None
        left = due / 1000 - self._clock()
        return Waiting(attempt, round(left, 1)) if left > 0 else None
