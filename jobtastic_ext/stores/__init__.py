"""Stores of claims, opened by URL; each driver is imported only then."""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib import import_module
from typing import Any, cast
from urllib.parse import unquote, urlsplit

from ..claims.store import ResultPlace, Store
from ..errors import ConfigurationError

__all__ = ("Store", "open_store", "tables_of")

#: What a URL may begin with -> the module that serves it.
SCHEMES = {
    "db+mariadb": "sql",
    "db+mysql": "sql",
    "db+postgresql": "sql",
    "django": "django",
    "django-db": "django",
    "memcached": "memcached",
    "memory": "memory",
    "redis": "redis",
    "redis+cluster": "redis",
    "redis+socket": "redis",
    "rediss": "redis",
    "rediss+cluster": "redis",
    "sentinel": "redis",
    "socket": "redis",
    "sqlite": "sqlite",
    "unix": "redis",
}


def open_store(
    url: str,
    *,
    timeout: float = 0.5,
    results: Callable[[], ResultPlace | None] | None = None,
    **options: Any,
) -> Store:
    """Open the store that `url` names; one call to it takes about `timeout` seconds at most.

    ``redis://[user:password@]host:port/db``, also ``rediss://`` with Celery's ``ssl_…`` options;
    ``redis+socket:///path?virtual_host=db``, also ``socket://`` and ``unix://``;
    ``sentinel://h1:p1;sentinel://h2:p2/db`` with ``master_name`` in the query or in `options`;
    ``redis+cluster://h1:p1,h2:p2``, also ``rediss+cluster://``;
    ``db+postgresql://user:password@host/database`` and ``db+mysql://``, as Celery writes them;
    ``sqlite:///relative`` and ``sqlite:////absolute``, shared by one machine;
    ``memcached://h1:p1,h2:p2``;
    ``django://alias``, what Django's CACHES names, and ``django-db://alias``, of its DATABASES;
    ``memory://name``, in one process, where the same URL gives the same claims.

    `results` says where results are; a store on the same server answers with what it sees there.
    `options` go to the driver's connections; the URL wins.  Raises `ConfigurationError` if the URL
    cannot be served.  A server that is down shows only when the store is used.
    """
    kind, module = driver_of(url)
    if kind == "django":
        refuse(options, url)
        place, options = module.named(url)
        return open_store(place, timeout=timeout, results=results, **options)
    if kind == "redis":
        return cast("Store", module.RedisStore(url, timeout=timeout, results=results, **options))
    opened = cast("Callable[..., Store]", OPENERS[kind])
    return opened(module, url, timeout, options)


def tables_of(url: str) -> str:
    """Return the SQL that makes the tables of the store at `url`; the store does so itself if it
    may.  Raises `ConfigurationError` for a store that is no database server."""
    kind, module = driver_of(url)
    if kind == "django":
        return tables_of(module.named(url)[0])
    if kind != "sql":
        scheme = url.partition(":")[0]
        raise ConfigurationError(f"claims live in {scheme}://, which needs no tables to be made")
    return str(module.schema(url))


def driver_of(url: str) -> tuple[str, Any]:
    """Return the name of the module that serves `url`, and the module."""
    scheme = url.partition("://")[0] if "://" in url else ""
    scheme = re.sub(r"^(db\+\w+)\+\w+$", r"\1", scheme)  # whatever the driver
    if scheme not in SCHEMES:
        # What does not look like a scheme may be a password.
        looks_so = re.fullmatch(r"[A-Za-z0-9+-]+", scheme)
        named = f"unknown scheme {scheme!r}" if looks_so else "no URL"
        raise ConfigurationError(
            f"jobtastic_store: {named}; there are {', '.join(f'{s}://' for s in sorted(SCHEMES))}"
        )
    try:
        module = import_module(f".{SCHEMES[scheme]}", __name__)
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"jobtastic_store: {scheme}:// needs a Python package that is not installed: "
            f"{error.name}; install it"
        ) from error
    return SCHEMES[scheme], module


def open_memory(module: Any, url: str, timeout: float, options: dict[str, Any]) -> Store:
    refuse(options, url)
    return cast("Store", module.shared(url))


def open_sqlite(module: Any, url: str, timeout: float, options: dict[str, Any]) -> Store:
    refuse(options, url)
    parts = urlsplit(url)
    path = unquote(parts.path).removeprefix("/")
    if parts.netloc or not path or path == ":memory:":
        raise ConfigurationError(
            "jobtastic_store: an sqlite:// URL needs the path of a file, sqlite:///relative or "
            "sqlite:////absolute; for claims in memory use memory://"
        )
    return cast("Store", module.SQLiteStore(path, timeout=timeout))


def refuse(options: dict[str, Any], url: str) -> None:
    if options:
        raise ConfigurationError(
            f"jobtastic_store: {url.partition(':')[0]}:// takes no options, but was given "
            f"{', '.join(sorted(options))}; leave them out"
        )


def open_sql(module: Any, url: str, timeout: float, options: dict[str, Any]) -> Store:
    return cast("Store", module.SQLStore(url, timeout=timeout, **options))


def open_memcached(module: Any, url: str, timeout: float, options: dict[str, Any]) -> Store:
    refuse(options, url)
    return cast("Store", module.MemcachedStore(url, timeout=timeout))


OPENERS = {
    "memcached": open_memcached,
    "memory": open_memory,
    "sql": open_sql,
    "sqlite": open_sqlite,
}
