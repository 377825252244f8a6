"""Claims in memcached, by the callers' clocks.

A key is always on the same of several servers, whether that one answers or not: were it looked for
elsewhere meanwhile, two callers could each find the key free.  What the server evicts, and what a
restart takes, is forgotten: that call may run once more.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from math import ceil
from typing import Any

from msgspec.structs import replace
from pymemcache.client.base import Client
from pymemcache.client.rendezvous import RendezvousHash
from pymemcache.exceptions import MemcacheUnexpectedCloseError, MemcacheUnknownCommandError

from ..claims.records import FOREVER, Answer, Begin, Operation, Renew
from ..errors import ConfigurationError, StoreError, StoreUnavailable
from .compare_and_set import CompareAndSetStore, Entry, Session

#: Milliseconds that the clocks of two callers may differ: leases last so much longer.
SKEW = 2_000

PORT = 11211

#: What to do, by words of the server.
ADVICE = {
    "out of memory": "; give it more memory (-m), and let it evict (without -M)",
    "too large": "; let it keep larger items (-I), or call with smaller arguments",
}


class MemcachedStore(CompareAndSetStore):
    """Claims on the servers of ``memcached://host:port,host:port``; ``/path`` for a socket."""

    def __init__(self, url: str, *, timeout: float = 0.5) -> None:
        places = url.partition("://")[2].strip()
        if not places:
            raise ConfigurationError(
                "jobtastic_store: memcached:// names no server; write memcached://host:11211"
            )
        self._servers = sorted(map(placed, places.split(",")))
        super().__init__(places, timeout)

    def apply(self, key: str, operation: Operation) -> Answer:
        if isinstance(operation, Begin | Renew) and operation.lease:
            operation = replace(operation, lease=operation.lease + SKEW)
        return super().apply(key, operation)

    def connect(self) -> Session:
        return MemcachedSession(self._servers, self._timeout)

    def wrapped(self, error: Exception) -> StoreError:
        words = f"{type(error).__name__}: {error}".rstrip(": ")
        if isinstance(error, OSError | MemcacheUnexpectedCloseError):
            return StoreUnavailable(
                f"memcached at {self.address} cannot serve: {words}; "
                "check that each server runs and can be reached"
            )
        if isinstance(error, MemcacheUnknownCommandError):
            # Of the server's "ERROR Too many open connections" only the first word is kept.
            return StoreUnavailable(
                f"memcached at {self.address} cannot serve: {words}; it takes no more connections "
                "(give it more by -c), or something before it knows no gets and cas"
            )
        advice = next((each for part, each in ADVICE.items() if part in words), "")
        return StoreError(f"memcached at {self.address} failed: {words}{advice}")


class MemcachedSession(Session):
    def __init__(self, servers: Sequence[str], timeout: float) -> None:
        self.clients = {
            server: Client(server, connect_timeout=timeout, timeout=timeout, no_delay=True)
            for server in servers
        }
        self._place = RendezvousHash(servers)

    def get(self, names: Sequence[str]) -> tuple[list[Entry], int]:
        found = [self._client(name).gets(name) for name in names]
        now = time.time_ns() // 1_000_000
        return [entry(value, version, now) for value, version in found], now

    def put(self, name: str, old: Entry, new: Entry, expires: int, now: int) -> bool:
        value = b"%d %d %b" % (new.mark, expires, new.raw or b"")
        # As a time since 1970: what is less than a month counts from now.
        end = 0 if expires >= FOREVER else ceil(expires / 1000) + 1
        client = self._client(name)
        if old.version is None:
            return bool(client.add(name, value, end, noreply=False))
        return bool(client.cas(name, value, old.version, end, noreply=False))

    def ping(self) -> None:
        for client in self.clients.values():  # each of them: none takes another's place
            client.version()

    def close(self) -> None:
        for client in self.clients.values():
            client.close()

    def _client(self, name: str) -> Client:
        return self.clients[self._place.get_node(name)]


def entry(value: bytes | None, version: Any, now: int) -> Entry:
    if value is None:
        return Entry()
    with suppress(ValueError):
        mark, expires, raw = value.split(b" ", 2)
        return Entry(raw if now < int(expires) else None, int(mark), version)
    return Entry(value, 0, version)  # somebody else's


def placed(server: str) -> str:
    """Return one server as its client takes it."""
    server = server.strip()
    if server.startswith(("/", "unix:")):
        return server
    _, colon, port = server.rpartition(":")
    if colon and port.isdigit():
        return server
    if colon and not server.endswith("]"):
        raise ConfigurationError(
            f"jobtastic_store: {server!r} names no server of memcached; write host:11211"
        )
    return f"{server}:{PORT}"
