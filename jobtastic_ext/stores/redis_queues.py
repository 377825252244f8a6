"""Celery's queues in Redis, looked at in bounded time."""

from __future__ import annotations

from collections.abc import Sequence

from .redis import RedisServer, Script, ScriptMissing, packed

__all__ = ("RedisQueues",)

AHEAD = Script.load("ahead")


class RedisQueues(RedisServer):
    """The broker's Redis; one call takes about `timeout` seconds at most.  Raises `StoreError`."""

    def ahead(self, lists: Sequence[str], part: str, most: int) -> int | None:
        """Return how many messages are taken before the one that contains `part`.

        `lists` are those of one queue, first served first.  None if it is not among the next
        `most` messages.
        """
        keys = [name.encode() for name in lists]
        rest = (b"%d" % len(keys), *keys, part.encode(), b"%d" % most)
        try:
            found: int = self._ask(keys[0], packed(b"EVALSHA", AHEAD.digest, *rest))
        except ScriptMissing:
            found = self._ask(keys[0], packed(b"EVAL", AHEAD.source, *rest))
        return None if found < 0 else found
