"""From a Redis URL to its servers."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import redis.connection
import redis.sentinel
from redis import exceptions as driver
from redis.backoff import NoBackoff
from redis.retry import Retry

from ..errors import ConfigurationError
from .cluster import Cluster
from .connection import Budget, OneServer, Servers, bounded
from .quick_pool import quick


class Plan(NamedTuple):
    #: The servers, for messages: without user name and password.
    address: str
    #: Makes the pools; connects nothing yet.
    connect: Callable[[], Servers]
    #: The one server, and the number of the database there; empty for several.
    server: str = ""
    db: int = 0


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
        server = f"unix://{settled['path']}"
        address = f"{server}?db={db}"
    else:
        host, port = settled.get("host", "localhost"), settled.get("port", 6379)
        scheme = "redis" if base is redis.connection.Connection else "rediss"
        server = f"{scheme}://{host}:{port}"
        address = f"{server}/{db}"
    return Plan(address, lambda: OneServer(new_pool(base, budget, settled)), server, int(db))


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
        pool = quick(redis.sentinel.SentinelConnectionPool)(
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
        quick(redis.connection.ConnectionPool)(
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
