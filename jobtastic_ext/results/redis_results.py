"""Celery's results in Redis, read and written in bounded time.

Celery's own client repeats a command for some 20 s when the server is gone, and waits 120 s for one
that is silent.
"""

from __future__ import annotations

from ..redis_client.server import RedisServer, Script

__all__ = ("RedisResults",)

REPLACE = Script.load("replace")


class RedisResults(RedisServer):
    """The result backend's Redis; one call takes about `timeout` seconds at most.

    Raises `StoreError`, and `StoreUnavailable` past the timeout.
    """

    def replace(self, key: bytes, old: bytes, new: bytes, expires: int) -> bytes | None:
        """Put `new` under `key` for `expires` seconds (0: for ever) if `old` is there now.

        Atomic, and published as Celery does.  `old` is empty for a key that does not exist.
        Returns None when it is done, else what is there instead.
        """
        found: bytes = self._run(REPLACE, key, old, new, b"%d" % expires)
        if found == b"\0":
            return b""
        return found or None
