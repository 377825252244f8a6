"""Stores of claims, opened by URL; each driver is imported only then."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any, cast
from urllib.parse import unquote, urlsplit

from ..claims.store import ResultKeys, Store
from ..errors import ConfigurationError

__all__ = ("Store", "open_store")

#: What a URL may begin with -> the module that serves it.
SCHEMES = {
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
    url: str, *, timeout: float = 0.5, results: ResultKeys | None = None, **options: Any
) -> Store:
    """Open the store that `url` names; one call to it takes about `timeout` seconds at most.

    ``redis://[user:password@]host:port/db``, also ``rediss://`` with Celery's ``ssl_…`` options;
    ``redis+socket:///path?virtual_host=db``, also ``socket://`` and ``unix://``;
    ``sentinel://h1:p1;sentinel://h2:p2/db`` with ``master_name`` in the query or in `options`;
    ``redis+cluster://h1:p1,h2:p2``, also ``rediss+cluster://``;
    ``sqlite:///relative`` and ``sqlite:////absolute``, shared by one machine;
    ``memory://name``, in one process, where the same URL gives the same claims.

    `results` says where results are; a store on the same server answers with what it sees there.
    `options` go to the driver's connections; the URL wins.  Raises `ConfigurationError` if the URL
    cannot be served.  A server that is down shows only when the store is used.
    """
    scheme = url.partition("://")[0] if "://" in url else ""
    if scheme not in SCHEMES:
        # What does not look like a scheme may be a password.
        named = f"unknown scheme {scheme!r}" if scheme.replace("+", "").isalnum() else "no URL"
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
    if SCHEMES[scheme] == "redis":
        return cast("Store", module.RedisStore(url, timeout=timeout, results=results, **options))
    opened = cast("Callable[..., Store]", OPENERS[SCHEMES[scheme]])
    return opened(module, url, timeout, options)


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


OPENERS = {"memory": open_memory, "sqlite": open_sqlite}
