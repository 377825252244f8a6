"""The store that a Django project's own settings name."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from django.conf import settings

from ..errors import ConfigurationError

#: A URL of a store, and its options.
Place = tuple[str, dict[str, Any]]

#: What Django itself makes of a database's OPTIONS; the rest is the driver's.
NOT_THE_DRIVERS = ("assume_role", "isolation_level", "pool", "server_side_binding")


def named(url: str) -> Place:
    """Return the store that ``django://alias`` names in CACHES, ``django-db://`` in DATABASES.

    Raises `ConfigurationError` if there is no such alias, or no store for what it names.
    """
    scheme, _, alias = url.partition("://")
    alias = alias.strip("/") or "default"
    if scheme == "django-db":
        return of_database(alias)
    cache = settings.CACHES.get(alias)
    if cache is None:
        raise unknown("CACHES", alias, settings.CACHES)
    backend = str(cache["BACKEND"])
    for name, place in CACHES.items():
        if backend.endswith(name):
            return place(cache)
    raise ConfigurationError(
        f"jobtastic_store: CACHES[{alias!r}] is {backend}, in which claims cannot be kept; there "
        "are Redis, memcached, the database and local memory; or set jobtastic_store to a URL"
    )


def of_redis(cache: Mapping[str, Any]) -> Place:
    url, options = locations(cache)[0], cache.get("OPTIONS") or {}
    user = options.get("username") or ""
    password = options.get("PASSWORD") or options.get("password")
    if password and "@" not in url:
        scheme, _, rest = url.partition("://")
        url = f"{scheme}://{quote(str(user), '')}:{quote(str(password), '')}@{rest}"
    database = options.get("db")
    if database is not None and not re.search(r"://[^/]*/\d", url):
        url = f"{url.rstrip('/')}/{database}"
    return url, {name: value for name, value in options.items() if name.startswith("ssl_")}


def of_memcached(cache: Mapping[str, Any]) -> Place:
    servers = [part for each in locations(cache) for part in re.split("[;,]", each)]
    return f"memcached://{','.join(servers)}", {}


def of_memory(cache: Mapping[str, Any]) -> Place:
    return f"memory://{cache.get('LOCATION', '')}", {}


def of_database_cache(cache: Mapping[str, Any]) -> Place:
    return of_database("default")


def of_database(alias: str) -> Place:
    found = settings.DATABASES.get(alias)
    if not found:
        raise unknown("DATABASES", alias, settings.DATABASES)
    engine, name = str(found["ENGINE"]), str(found.get("NAME") or "")
    if engine.endswith(("sqlite3", "spatialite")):
        # A file of its own: Django may have the other locked for longer than a call waits.
        return ("memory://" if ":memory:" in name else f"sqlite:///{name}.jobtastic"), {}
    kind = next((kind for end, kind in ENGINES.items() if engine.endswith(end)), None)
    if kind is None:
        raise ConfigurationError(
            f"jobtastic_store: DATABASES[{alias!r}] is {engine}; claims can be kept in PostgreSQL, "
            "MySQL, MariaDB and SQLite; set jobtastic_store to a URL of one, or of Redis"
        )
    options = found.get("OPTIONS") or {}
    arguments = {key: each for key, each in options.items() if key not in NOT_THE_DRIVERS}
    host = str(found.get("HOST") or "")
    if host.startswith("/"):
        arguments["unix_socket" if kind == "mysql" else "host"] = host
        host = ""
    user, password = (quote(str(found.get(key) or ""), "") for key in ("USER", "PASSWORD"))
    login = f"{user}:{password}@" if password else f"{user}@" if user else ""
    port = f":{found['PORT']}" if host and found.get("PORT") else ""
    if not host and found.get("PORT"):
        arguments["port"] = int(found["PORT"])
    url = f"db+{kind}://{login}{host}{port}/{quote(name, '')}"
    return url, {"connect_args": arguments} if arguments else {}


def locations(cache: Mapping[str, Any]) -> Sequence[str]:
    found = cache.get("LOCATION") or ""
    return [str(each) for each in found] if isinstance(found, list | tuple) else [str(found)]


def unknown(setting: str, alias: str, known: Mapping[str, Any]) -> ConfigurationError:
    return ConfigurationError(
        f"jobtastic_store: Django's {setting} has no {alias!r}; there are {', '.join(known)}"
    )


#: How the name of a cache's backend ends -> where it keeps what it is given.
CACHES: dict[str, Callable[[Mapping[str, Any]], Place]] = {
    "RedisCache": of_redis,
    "PyMemcacheCache": of_memcached,
    "PyLibMCCache": of_memcached,
    "MemcachedCache": of_memcached,
    "LocMemCache": of_memory,
    "DatabaseCache": of_database_cache,
}

#: The same of a database.
ENGINES = {
    "postgresql": "postgresql",
    "postgis": "postgresql",
    "mysql": "mysql",
}
