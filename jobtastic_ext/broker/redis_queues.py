"""Celery's queues in Redis, looked at seldom and in little time."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

from msgspec import Struct

from ..redis_client.connection import packed
from ..redis_client.server import RedisServer, Script, ScriptMissing
from ..resilience.per_process import per_process

UPCOMING = Script.load(files(__package__), "upcoming")

#: Seconds for which a look holds, for however many tasks and pages.
FRESH = 0.5

#: Seconds for which a queue of large messages is left alone.
REST = 10.0

#: Bytes of messages that one look may read for each message that it may look at.
MEAN = 2_000


class Look(Struct):
    """What was seen of a queue: the places of the tasks that are next, and until when it holds."""

    places: dict[str, int]
    until: float


class RedisQueues(RedisServer):
    """The broker's Redis; one call takes about `timeout` seconds at most.  Raises `StoreError`.

    A look takes the server 0.1 to 0.6 ms, and there are two in a second for each queue: what pages
    cost the broker grows neither with what is queued nor with how many tasks they ask for.  One
    message that is larger than all others is read once in `REST` seconds.
    """

    def __init__(self, url: str, **options: Any) -> None:
        super().__init__(url, **options)
        self._looks: dict[tuple[str, ...], Look] = {}
        self._looking = per_process(threading.Lock)

    def ahead(self, lists: Sequence[str], task_id: str, most: int) -> int | None:
        """Return how many messages are taken before that of a task, its id as JSON has it.

        `lists` are those of one queue, first served first.  None if it is not among the next
        `most` messages, or if they are too large to be looked at.
        """
        queue = tuple(lists)
        look = self._looks.get(queue)
        if look is None or look.until < time.monotonic():
            look = self._renewed(queue, most) or look
        return look.places.get(task_id) if look is not None else None

    def _renewed(self, queue: tuple[str, ...], most: int) -> Look | None:
        lock = self._looking()
        if not lock.acquire(blocking=False):
            return None  # another thread looks
        try:
            look = self._looks[queue] = self._look(queue, most)
            return look
        finally:
            lock.release()

    def _look(self, queue: tuple[str, ...], most: int) -> Look:
        keys = [name.encode() for name in queue]
        rest = (b"%d" % len(keys), *keys, b"%d" % most, b"%d" % (most * MEAN))
        try:
            ids, large = self._ask(keys[0], packed(b"EVALSHA", UPCOMING.digest, *rest))
        except ScriptMissing:
            ids, large = self._ask(keys[0], packed(b"EVAL", UPCOMING.source, *rest))
        places: dict[str, int] = {}
        for place, task_id in enumerate(ids):
            places.setdefault(task_id.decode(errors="replace"), place)
        return Look(places, time.monotonic() + (REST if large else FRESH))
