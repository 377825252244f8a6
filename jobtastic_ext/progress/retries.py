"""When the next attempt of a task begins: Celery does not store that with RETRY."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from ..claims.store import Store
from ..errors import StoreError
from ..keys.call_key import retry_key

logger = logging.getLogger("jobtastic_ext")

#: Seconds; who waits for less need not be told.
SHORTEST = 1.0


class Retries:
    """When the attempts of an app's tasks are due, kept in the store until they are."""

    def __init__(
        self, store: Store, key_prefix: str, clock: Callable[[], float] = time.time
    ) -> None:
        self._store, self._prefix, self._clock = store, key_prefix, clock

    def note(self, task_id: str, seconds: float) -> None:
        """The task will be tried again in so many seconds."""
        if seconds < SHORTEST:
            return
        key = retry_key(self._prefix, task_id)
        value = b"%d" % round((self._clock() + seconds) * 1000)
        try:
            # One of an earlier attempt has expired, unless it was tried too soon.
            if not self._store.swap(key, None, value, round(seconds * 1000)):
                (old,) = self._store.load([key])
                self._store.swap(key, old, value, round(seconds * 1000))
        except StoreError as error:
            logger.debug("no page is told when %s is tried again: %s", task_id, error)

    def of(self, task_id: str) -> float | None:
        """Return in how many seconds the next attempt begins; None if nobody knows."""
        try:
            (value,) = self._store.load([retry_key(self._prefix, task_id)])
            left = int(value or 0) / 1000 - self._clock()
        except (StoreError, ValueError):
            return None
        return round(left, 1) if left > 0 else None
