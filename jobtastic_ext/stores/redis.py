"""Claims in Redis or Valkey: one server, Sentinel, or Cluster.

The rules run in the server, as Lua scripts, so a call is one round trip.  Needs Redis 5 or newer,
or Valkey; redis-py 4.5 or newer.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import os
import random
import re
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from importlib.resources import files
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import msgspec
import redis.connection
import redis.sentinel
from redis import exceptions as driver
from redis.backoff import NoBackoff
from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot
from redis.retry import Retry

from ..errors import ConfigurationError, StoreError, StoreUnavailable
from ..records import (
    Answer,
    Begin,
    Claim,
    ClaimCall,
    Ending,
    Finish,
    Forget,
    Lapse,
    Operation,
    Release,
    Renew,
    Requeue,
)
from .base import Store
from .foreign import ForeignValues

__all__ = ("RedisServer", "RedisStore", "Script")

encode = msgspec.json.Encoder().encode
decode = msgspec.json.Decoder(Claim).decode


class Script(NamedTuple):
    source: bytes
    digest: bytes

    @classmethod
    def load(cls, *names: str) -> Script:
        folder = files(__package__).joinpath("lua")
        source = b"\n".join(folder.joinpath(f"{name}.lua").read_bytes() for name in names)
        return cls(source, hashlib.sha1(source).hexdigest().encode())


SCRIPTS = {
    ClaimCall: Script.load("free", "record", "claim"),
    Begin: Script.load("record", "begin"),
    Ending: Script.load("record", "ending"),
    Finish: Script.load("record", "finish"),
    Release: Script.load("record", "release"),
    Lapse: Script.load("record", "lapse"),
    Requeue: Script.load("record", "requeue"),
    Renew: Script.load("record", "renew"),
    Forget: Script.load("record", "forget"),
}
READ = Script.load("record", "read")
SWAP = Script.load("swap")


class RedisServer:
    """The servers that `url` names; one call takes about `timeout` seconds at most.

    `options` go to redis-py's connections, below what the URL says; for Sentinel also
    `master_name`, `sentinel_kwargs` and `min_other_sentinels`.  What would stretch a call beyond
    the timeout (retries, health checks, other timeouts) is left out.  The look-up of a host name
    is outside the timeout.  Raises `ConfigurationError` if the URL or an option makes no sense;
    connects when first used.

    A command is never sent twice, save after an answer that says it was not carried out.  Instead
    a pooled connection that a restarted server has closed is noticed when it is taken from the
    pool, before anything is sent.
    """

    def __init__(self, url: str, *, timeout: float = 0.5, **options: Any) -> None:
        self._budget = Budget(timeout)
        self._plan = plan(url, options, self._budget)
        self.address = self._plan.address
        self._servers = os.getpid(), self._plan.connect()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.address}>"

    def ping(self) -> None:
        self._ask(b"", packed(b"PING"))

    def close(self) -> None:
        pid, servers = self._servers
        self._servers = os.getpid(), self._plan.connect()
        if pid == os.getpid():
            servers.close()

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """Return the strings under `keys`; what is no string counts as absent."""
        found: list[bytes | None] = self._ask_many(keys, b"MGET") if keys else []
        return found

    def _run(self, script: Script, key: str | bytes, *arguments: bytes) -> Any:
        rest = b"1", key if isinstance(key, bytes) else key.encode(), *arguments
        try:
            return self._ask(rest[1], packed(b"EVALSHA", script.digest, *rest))
        except ScriptMissing:
            return self._ask(rest[1], packed(b"EVAL", script.source, *rest))

    def _ask_many(self, keys: Sequence[bytes], command: bytes) -> Any:
        if self._servers[1].is_one:
            return self._ask(keys[0], packed(command, *keys))
        return [one for key in keys for one in self._ask(key, packed(command, key))]

    def _ask(self, key: bytes, command: bytes) -> Any:
        pid, servers = self._servers
        if pid != os.getpid():
            # After a fork: the parent's sockets are not ours to use, its locks may be held.
            servers = self._plan.connect()
            self._servers = os.getpid(), servers
        self._budget.start()
        try:
            return servers.ask(key, command)
        except driver.NoScriptError as error:
            raise ScriptMissing from error
        except driver.RedisError as error:
            raise wrapped(error, self.address, self._budget.timeout) from error
        finally:
            if servers is not self._servers[1]:
                servers.close()  # the store was closed meanwhile


class RedisStore(RedisServer, Store):
    """Claims on the servers that `url` names.

    To repeat a claim would answer "joined" to the one who has the claim, to repeat `Finish`,
    `Release` or `Requeue` would answer "lost"; see `RedisServer` for why that does not happen.
    """

    def __init__(self, url: str, *, timeout: float = 0.5, **options: Any) -> None:
        super().__init__(url, timeout=timeout, **options)
        self._foreign = ForeignValues(self.address)

    def apply(self, key: str, operation: Operation) -> Answer:
        reply = self._run(SCRIPTS[type(operation)], key, encode(operation))
        if len(reply) > 5:
            self._foreign.noticed(key)
        return answered(reply)

    def read(self, key: str) -> Claim | None:
        return self.look(key)[0]

    def look(self, key: str) -> tuple[Claim | None, int]:
        reply = self._run(READ, key, b"{}")
        if len(reply) > 2:
            self._foreign.noticed(key)
        return (decode(reply[0]) if reply[0] else None), reply[1]

    def load(self, keys: Sequence[str]) -> list[bytes | None]:
        return self.get_many([key.encode() for key in keys])

    def swap(self, key: str, old: bytes | None, new: bytes, ttl: int) -> bool:
        return bool(self._run(SWAP, key, old or b"", new, b"%d" % ttl))


def answered(reply: list[Any]) -> Answer:
    """The answer that a script's reply stands for."""
    word, task_id, gen, at, ids = reply[:5]
    others = tuple([one.decode() for one in ids])
    return Answer(word.decode(), task_id.decode(), gen.decode(), at, others)


class ScriptMissing(Exception):
    """The server does not know the script yet, or no longer."""


# Time


class Budget(threading.local):
    """How much time the call under way in this thread has left."""

    def __init__(self, timeout: float) -> None:
        self.timeout = timeout
        self.end = time.monotonic() + timeout

    def start(self) -> None:
        self.end = time.monotonic() + self.timeout

    def left(self) -> float:
        """Seconds, and never so few that a server which answers at once would be too late.

        In a process with many busy threads a call may wait for the interpreter longer than for the
        server (0.5 s and more, with 25 threads in each of 8 processes on 2 cores).  That is no
        fault of the server, and must not cost what the call came for.
        """
        return max(self.end - time.monotonic(), self.timeout / 4)


def bounded(base: Any, budget: Budget, longest: float) -> Any:
    """The driver's connection class `base`, with each wait kept within `budget` and `longest`.

    The driver's own timeouts hold for one wait, and a call may be many: connect, greet, ask a
    sentinel or another node.
    """

    class Bounded(base):  # type: ignore[misc]
        def _connect(self) -> Any:
            self.socket_timeout = self.socket_connect_timeout = min(budget.left(), longest)
            return super()._connect()

        def send_packed_command(self, command: Any, check_health: bool = True) -> Any:
            if self._sock is not None:
                self._sock.settimeout(min(budget.left(), longest))
            return super().send_packed_command(command, check_health)

    return Bounded


# Servers


class Servers(ABC):
    """Where the command for a key goes."""

    #: One command may name keys of any kind.
    is_one = False

    @abstractmethod
    def ask(self, key: bytes, command: bytes) -> Any:
        """Send `command` to whoever serves `key` and return the answer, raise an error answer."""

    @abstractmethod
    def close(self) -> None:
        """Close the connections that no thread uses now."""


class OneServer(Servers):
    """A pool of connections, to one address or to the master that Sentinel names."""

    is_one = True

    def __init__(self, pool: Any, *others: Any) -> None:
        self._pool = pool
        self._others = others

    def ask(self, key: bytes, command: bytes) -> Any:
        return exchange(self._pool, command)

    def close(self) -> None:
        for pool in (self._pool, *self._others):
            pool.disconnect(inuse_connections=False)


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


def packed(*parts: bytes) -> bytes:
    """`parts` as one command in Redis' protocol."""
    return b"*%d\r\n" % len(parts) + b"".join([b"$%d\r\n%b\r\n" % (len(p), p) for p in parts])


ASKING = packed(b"ASKING")

# redis-py 5.3 deprecated the argument that earlier versions require.
_signature = inspect.signature(redis.connection.ConnectionPool.get_connection)
_CHECKOUT = () if _signature.parameters["command_name"].default is None else ("EVALSHA",)


def exchange(pool: Any, command: bytes, *, asking: bool = False) -> Any:
    """Send `command` over a connection of `pool` and return the answer, raise an error answer.

    The client class does the same in a quarter more time.
    """
    connection = pool.get_connection(*_CHECKOUT)
    try:
        connection.send_packed_command([ASKING, command] if asking else [command])
        if asking:
            connection.read_response()
        return connection.read_response()
    except driver.ResponseError:
        raise
    except BaseException:
        # An answer may still be under way (a soft time limit can strike between the two lines);
        # whoever used the connection next would take it for the answer to their own question.
        connection.disconnect()
        raise
    finally:
        pool.release(connection)


# Errors

#: Answers of a server that is up and may serve the command later, or elsewhere.
LATER = re.compile(
    r"\b(BUSY|CLUSTERDOWN|LOADING|MASTERDOWN|MISCONF|NOREPLICAS|OOM|READONLY|TRYAGAIN)\b"
)
LATER_ERRORS = (
    driver.ConnectionError,
    driver.TimeoutError,
    driver.ClusterError,
    driver.AskError,
    driver.TryAgainError,
    driver.ReadOnlyError,
    getattr(driver, "OutOfMemoryError", driver.ReadOnlyError),
)
RIGHTS_ERRORS = (
    driver.AuthenticationError,
    driver.AuthorizationError,
    driver.NoPermissionError,
    driver.AuthenticationWrongNumberOfArgsError,
)


def wrapped(error: driver.RedisError, address: str, timeout: float) -> StoreError:
    if isinstance(error, RIGHTS_ERRORS):
        return StoreError(
            f"the Redis store at {address} refused: {error}; "
            "check the user name and password in jobtastic_store, and that user's rights"
        )
    if isinstance(error, driver.TimeoutError):
        return StoreUnavailable(
            f"the Redis store at {address} did not answer within {timeout:g} s ({error}); "
            "check that it runs and can be reached, or raise jobtastic_store_timeout"
        )
    if isinstance(error, LATER_ERRORS) or LATER.search(str(error)):
        return StoreUnavailable(
            f"the Redis store at {address} cannot serve: {error}; "
            "check that it runs, can be reached and accepts writes"
        )
    return StoreError(f"the Redis store at {address} failed: {error}")


# URLs


class Plan(NamedTuple):
    #: The servers, for messages: without user name and password.
    address: str
    #: Makes the pools; connects nothing yet.
    connect: Callable[[], Servers]


#: Celery's spelling of `ssl_cert_reqs`, and the driver's.
CERT_REQS = {"CERT_NONE": "none", "CERT_OPTIONAL": "optional", "CERT_REQUIRED": "required"}

#: What would make a call last longer, and what a store must decide by itself.
LEFT_OUT = (
    "decode_responses",
    "health_check_interval",
    "protocol",
    "retry",
    "retry_on_error",
    "retry_on_timeout",
    "single_connection_client",
    "socket_connect_timeout",
    "socket_timeout",
    "timeout",
)


def plan(url: str, options: dict[str, Any], budget: Budget) -> Plan:
    scheme, separator, rest = url.partition("://")
    options = flat(options)
    try:
        if scheme == "sentinel":
            made = plan_sentinel(url, options, budget)
        elif scheme in ("redis+cluster", "rediss+cluster"):
            made = plan_cluster(scheme.partition("+")[0] + separator + rest, options, budget)
        else:
            if scheme in ("redis+socket", "socket"):
                url = "unix://" + rest
            made = plan_server(url, options, budget)
        made.connect()
    except (TypeError, ValueError, driver.RedisError) as error:
        # A part of the URL in the driver's words may be a part of the password.
        reason = f": {error}" if isinstance(error, TypeError | driver.RedisError) else ""
        raise ConfigurationError(
            f"jobtastic_store, a {scheme}:// URL, cannot be understood{reason}; check its options, "
            "and write special characters in a password as %XX"
        ) from None
    return made


def plan_server(url: str, options: dict[str, Any], budget: Budget) -> Plan:
    found = {**options, **parse_url(url)}
    base = found.pop("connection_class", redis.connection.Connection)
    settled = connection_options(found)
    if base is redis.connection.Connection and is_tls(settled):
        base = redis.connection.SSLConnection
    settled.pop("ssl", None)
    db = settled.get("db", 0)
    if "path" in settled:
        address = f"unix://{settled['path']}?db={db}"
    else:
        host, port = settled.get("host", "localhost"), settled.get("port", 6379)
        scheme = "redis" if base is redis.connection.Connection else "rediss"
        address = f"{scheme}://{host}:{port}/{db}"
    return Plan(address, lambda: OneServer(new_pool(base, budget, settled)))


def plan_sentinel(url: str, options: dict[str, Any], budget: Budget) -> Plan:
    """Celery's spelling: ``sentinel://h1:26379;sentinel://h2:26379/0``, options after ``?``."""
    found: dict[str, Any] = dict(options)
    sentinels = []
    for part in url.split(";"):
        one = parse_url("redis://" + part.removeprefix("sentinel://"))
        sentinels.append((one.pop("host", "localhost"), one.pop("port", 26379)))
        found.update(one)
    master_name = found.pop("master_name", None)
    if not master_name:
        raise ConfigurationError(
            "jobtastic_store, a sentinel:// URL, names no master; "
            "add ?master_name=… with the name that the sentinels know it by"
        )
    fewest = int(found.pop("min_other_sentinels", 0))
    greeting = found.pop("sentinel_kwargs", {})
    if isinstance(greeting, str):
        greeting = json.loads(greeting)
    greeting = connection_options(greeting)
    settled = connection_options(found)
    base = redis.sentinel.SentinelManagedConnection
    if is_tls(settled):
        base = redis.sentinel.SentinelManagedSSLConnection
    settled.pop("ssl", None)
    # One dead sentinel may take its share of the time, but leaves some to the others.
    share = budget.timeout / (len(sentinels) + 1)

    def connect() -> Servers:
        manager = redis.sentinel.Sentinel(  # type: ignore[no-untyped-call]
            sentinels,
            min_other_sentinels=fewest,
            sentinel_kwargs={**greeting, "retry": Retry(NoBackoff(), 0)},
        )
        pools = [client.connection_pool for client in manager.sentinels]
        for pool in pools:
            pool.connection_class = bounded(pool.connection_class, budget, share)
        pool = redis.sentinel.SentinelConnectionPool(  # type: ignore[no-untyped-call]
            master_name,
            manager,
            connection_class=bounded(base, budget, budget.timeout),
            max_connections=MANY,
            **settled,
        )
        return OneServer(checked(pool), *pools)

    where = ",".join(f"{host}:{port}" for host, port in sentinels)
    return Plan(f"sentinel://{where}/{settled.get('db', 0)} ({master_name})", connect)


def plan_cluster(url: str, options: dict[str, Any], budget: Budget) -> Plan:
    """``redis+cluster://[user:password@]h1:p1,h2:p2?option=…``; all nodes share the options."""
    parts = urlsplit(url)
    user, at, hosts = parts.netloc.rpartition("@")
    found: dict[str, Any] = dict(options)
    nodes = []
    for host in hosts.split(","):
        one = parse_url(parts._replace(netloc=user + at + host).geturl())
        nodes.append((one.pop("host", "localhost"), one.pop("port", 6379)))
        found.update(one)
    base = found.pop("connection_class", redis.connection.Connection)
    settled = connection_options(found)
    if is_tls(settled):
        base = redis.connection.SSLConnection
    settled.pop("ssl", None)
    if settled.pop("db", 0):
        raise ConfigurationError(
            "jobtastic_store: a Redis Cluster has only database 0; leave the number out of the URL"
        )

    def pool(host: str, port: int) -> Any:
        return new_pool(base, budget, {**settled, "host": host, "port": port})

    def connect() -> Servers:
        pool(*nodes[0])
        return Cluster(nodes, pool, budget)

    where = ",".join(f"{host}:{port}" for host, port in nodes)
    return Plan(f"{parts.scheme}+cluster://{where}", connect)


def flat(options: dict[str, Any]) -> dict[str, Any]:
    """`options` with Celery's ``redis_backend_use_ssl``, a mapping under ``ssl``, spread out."""
    tls = options.get("ssl")
    if not isinstance(tls, Mapping):
        return options
    return {**options, **tls, "ssl": True}


#: A pool grows with the threads that use it at once; to refuse a caller helps nobody.
MANY = 2**31


def new_pool(base: Any, budget: Budget, options: dict[str, Any]) -> Any:
    return checked(
        redis.connection.ConnectionPool(
            connection_class=bounded(base, budget, budget.timeout),
            max_connections=MANY,
            **options,
        )
    )


def checked(pool: Any) -> Any:
    """`pool`; raises `TypeError` now, not at the first call, for an option nobody knows."""
    pool.connection_class(**pool.connection_kwargs)
    return pool


def connection_options(options: dict[str, Any]) -> dict[str, Any]:
    """Options as the driver's connections want them, in the spelling of its version."""
    settled = {name: value for name, value in options.items() if name not in LEFT_OUT}
    settled.pop("max_connections", None)
    if "virtual_host" in settled:  # Celery's name for the database, with a socket
        settled["db"] = int(settled.pop("virtual_host"))
    demands = settled.get("ssl_cert_reqs")
    if isinstance(demands, str):
        settled["ssl_cert_reqs"] = CERT_REQS.get(demands, demands)
    if settled.get("ssl_cert_reqs") in ("none", 0):
        settled.setdefault("ssl_check_hostname", False)
    # RESP2 is what every server speaks, and saves the greeting; so does to leave out CLIENT
    # SETINFO, two round trips for each new connection.
    spelling = inspect.signature(
        getattr(redis.connection, "AbstractConnection", redis.connection.Connection).__init__
    ).parameters
    if "protocol" in spelling:
        settled["protocol"] = 2
    if "driver_info" in spelling:
        settled.setdefault("driver_info", None)
    elif "lib_name" in spelling:
        settled.update(lib_name=None, lib_version=None)
    return settled


def parse_url(url: str) -> dict[str, Any]:
    return dict(redis.connection.parse_url(url))  # type: ignore[no-untyped-call]


def is_tls(options: dict[str, Any]) -> bool:
    wanted = options.get("ssl")
    if wanted is not None:
        return str(wanted).lower() not in ("0", "false", "no", "")
    return any(name.startswith("ssl_") for name in options)
