"""The servers of one URL, asked within one deadline."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from redis import exceptions as driver

from ..resilience.per_process import per_process
from .connection import Budget, Servers, exchange_many, packed, wrapped
from .urls import plan

if TYPE_CHECKING:
    from importlib.abc import Traversable  # which is elsewhere since Python 3.11


T = TypeVar("T")

#: Values asked for at once: at first, while nobody knows how large they are; and bytes of them.
FIRST, BYTES = 16, 1_000_000


class Script(NamedTuple):
    source: bytes
    digest: bytes

    @classmethod
    def load(cls, folder: Traversable, *names: str) -> Script:
        source = b"\n".join(folder.joinpath(f"{name}.lua").read_bytes() for name in names)
        return cls(source, hashlib.sha1(source).hexdigest().encode())


class RedisServer:
    """The servers that `url` names; one call takes about `timeout` seconds at most.

    `options` go to redis-py's connections, below what the URL says; for Sentinel also
    `master_name`, `sentinel_kwargs` and `min_other_sentinels`.  What would stretch a call beyond
    the timeout (retries, health checks, other timeouts) is left out.  The look-up of a host name
    is outside the timeout, save for those that are `hurried`.  Raises `ConfigurationError` if the
    URL or an option makes no sense; connects when first used.

    A command is never sent twice, save after an answer that says it was not carried out.  Instead
    a pooled connection that a restarted server has closed is noticed when it is taken from the
    pool, before anything is sent.
    """

    def __init__(self, url: str, *, timeout: float = 0.5, **options: Any) -> None:
        self._budget = Budget(timeout)
        self._plan = plan(url, options, self._budget)
        self.address = self._plan.address
        self._servers = per_process(self._plan.connect)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.address}>"

    @property
    def place(self) -> tuple[str, int]:
        """The one server and the number of the database there; the first is empty for several."""
        return self._plan.server, self._plan.db

    def ping(self) -> None:
        self._ask(b"", packed(b"PING"))

    def close(self) -> None:
        servers, self._servers = self._servers(), per_process(self._plan.connect)
        servers.close()

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """Return the strings under `keys`; what is no string counts as absent."""
        found: list[bytes | None] = self._ask_many(keys, b"MGET") if keys else []
        return found

    def _run(self, script: Script, key: str | bytes, *arguments: bytes) -> Any:
        return self._run_on(script, [key if isinstance(key, bytes) else key.encode()], *arguments)

    def _run_many(self, script: Script, keys: Sequence[bytes]) -> list[Any]:
        """Run a script that answers with one element for each key."""
        groups = [keys] if self._servers().is_one else [[key] for key in keys]
        return [one for group in groups if group for one in self._run_on(script, group)]

    def _run_on(self, script: Script, keys: Sequence[bytes], *arguments: bytes) -> Any:
        rest = b"%d" % len(keys), *keys, *arguments
        try:
            return self._ask(keys[0], packed(b"EVALSHA", script.digest, *rest))
        except ScriptMissing:
            return self._ask(keys[0], packed(b"EVAL", script.source, *rest))

    def _ask_many(self, keys: Sequence[bytes], command: bytes) -> Any:
        if self._servers().is_one:
            return self._ask(keys[0], packed(command, *keys))
        return [one for key in keys for one in self._ask(key, packed(command, key))]

    def _scan(self, match: bytes, count: int) -> Iterator[list[tuple[bytes, bytes]]]:
        """Yield the strings under keys that match, with their keys, some `count` at a time at most.

        The larger they are, the fewer: no command is to hold up the server.
        """
        most = FIRST
        for pool in self._bounded(lambda servers: servers.pools()):
            cursor = b""
            while cursor != b"0":
                scan = packed(b"SCAN", cursor or b"0", b"MATCH", match, b"COUNT", b"%d" % count)
                cursor, keys = self._exchange(pool, [scan], errors=False)[0]
                if not keys:
                    yield []
                while keys:
                    asked, keys = keys[:most], keys[most:]
                    pairs = zip(asked, self._values(pool, asked), strict=True)
                    # One that has moved, or is no string, is left out.
                    found = [pair for pair in pairs if type(pair[1]) is bytes]
                    yield found
                    largest = max((len(value) for _, value in found), default=1)
                    # A scan may bring some more than it was asked for.
                    most = max(1, min(2 * most, 2 * count, BYTES // max(largest, 1)))

    def _values(self, pool: Any, keys: list[bytes]) -> list[Any]:
        if self._servers().is_one:
            found: list[Any] = self._exchange(pool, [packed(b"MGET", *keys)], errors=False)[0]
            return found
        return self._exchange(pool, [packed(b"GET", key) for key in keys], errors=True)

    def _exchange(self, pool: Any, commands: list[bytes], errors: bool) -> list[Any]:
        return self._bounded(lambda _: exchange_many(pool, commands, errors=errors))

    def _ask(self, key: bytes, command: bytes) -> Any:
        return self._bounded(lambda servers: servers.ask(key, command))

    def _bounded(self, ask: Callable[[Servers], T]) -> T:
        own = self._servers
        servers = own()
        self._budget.start()
        try:
            return ask(servers)
        except driver.NoScriptError as error:
            raise ScriptMissing from error
        except driver.RedisError as error:
            raise wrapped(error, self.address, self._budget.timeout) from error
        finally:
            if own is not self._servers:
                servers.close()  # the store was closed meanwhile


class ScriptMissing(Exception):
    """The server does not know the script yet, or no longer."""
