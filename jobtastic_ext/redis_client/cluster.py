"""Redis Cluster: which server holds a key."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from redis import exceptions as driver
from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot

from .connection import Budget, Servers, exchange, packed


class Cluster(Servers):
    """A pool of connections for each node, and a map of who serves which slot.

    The driver's own cluster client asks every node in turn when one fails, with the full timeout
    for each; this one keeps within the time of the call.
    """

    #: Redirections that one command follows.
    HOPS = 5

    def __init__(
        self, seeds: Sequence[tuple[str, int]], pool: Callable[[str, int], Any], budget: Budget
    ) -> None:
        self._seeds = seeds
        self._new_pool = pool
        self._budget = budget
        self._pools: dict[tuple[str, int], Any] = {}
        self._owners: list[tuple[str, int] | None] = []

    def ask(self, key: bytes, command: bytes) -> Any:
        slot = key_slot(key)
        node = self._owner(slot)
        asking = False
        for _ in range(self.HOPS):
            try:
                return exchange(self._pool(node), command, asking=asking)
            except driver.NoScriptError:
                raise
            except driver.RedisError as error:
                other = redirection(error)
                if other is None or not other.once:
                    # Whatever it is, the map may be old; it is drawn anew for the next call.
                    self._owners = []
                if other is None:
                    raise
                node, asking = (other.host or node[0], other.port), other.once
        raise driver.ClusterError(f"redirected more than {self.HOPS} times")

    def pools(self) -> list[Any]:
        owners = self._owners or self._learn_owners()
        return [self._pool(node) for node in sorted({node for node in owners if node})]

    def close(self) -> None:
        for pool in list(self._pools.values()):
            pool.disconnect(inuse_connections=False)

    def _pool(self, node: tuple[str, int]) -> Any:
        pool = self._pools.get(node)
        if pool is None:
            pool = self._pools.setdefault(node, self._new_pool(*node))
        return pool

    def _owner(self, slot: int) -> tuple[str, int]:
        owners = self._owners or self._learn_owners()
        owner = owners[slot]
        if owner is None:
            self._owners = []
            raise driver.ClusterDownError(f"no node serves slot {slot}")
        return owner

    def _learn_owners(self) -> list[tuple[str, int] | None]:
        """Ask the nodes in random order; each may take half of the time that is left."""
        nodes = list({*self._pools, *self._seeds})
        random.shuffle(nodes)
        end = self._budget.end
        failure: driver.RedisError = driver.ConnectionError("no node is known")
        for node in nodes:
            self._budget.end = time.monotonic() + (end - time.monotonic()) / 2
            try:
                layout = exchange(self._pool(node), packed(b"CLUSTER", b"SLOTS"))
            except (driver.ConnectionError, driver.TimeoutError) as error:
                failure = error
                continue
            finally:
                self._budget.end = end
            owners: list[tuple[str, int] | None] = [None] * REDIS_CLUSTER_HASH_SLOTS
            for first, last, (host, port, *_), *_ in layout:
                # An empty host means the one that was asked.
                owner = (host.decode() if host else node[0], port)
                owners[first : last + 1] = [owner] * (last + 1 - first)
            self._owners = owners
            return owners
        raise failure


#: "MOVED <slot> <host>:<port>"; the driver has a class for it, but only newer ones make use of it
#: outside their own cluster client.
REDIRECTION = re.compile(r"(?:(MOVED|ASK) )?\d+ (.*):(\d+)")


class Redirection(NamedTuple):
    host: str
    port: int
    #: The slot is on its way: ask there for this key, but go on asking here for others.
    once: bool


def redirection(error: driver.RedisError) -> Redirection | None:
    found = REDIRECTION.fullmatch(str(error))
    if found is None:
        return None
    word, host, port = found.groups()
    moved = word == "MOVED" or isinstance(error, driver.MovedError)
    return Redirection(host, int(port), not moved)
