"""The settings of an app, read once and checked all together.

`read_settings` takes any mapping with `get`, such as ``app.conf``; it knows nothing of Celery.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from difflib import get_close_matches
from math import isfinite
from pathlib import Path
from typing import Any, Protocol

from msgspec import Struct

from .errors import ConfigurationError
from .namespace import default_namespace

#: What every setting begins with.
PREFIX = "jobtastic_"

#: Every setting there is, and what it means; the reference of the documentation is made of it.
NAMES = {
    "policy": "Path of the policy file, or the policy as a mapping; by default "
    "`$JOBTASTIC_POLICY`, else `jobtastic.yaml` in the working directory.",
    "store": "Where claims live, as a URL; by default the result backend if it is Redis, else the "
    "broker if it is Redis; for a broker in memory, memory; for another one on one machine a file "
    "`jobtastic.sqlite3` in the working directory. Anything else has to be said.",
    "key_prefix": "First part of every key; by default `jobtastic`, the app's name and a digest of "
    "where broker and results are, so that two deployments never meet by accident.",
    "enabled": "`False`, or `JOBTASTIC_ENABLED=0` in the environment, when a process makes its "
    "first call: nothing is decided, Celery sends and runs everything.",
    "lease": "Seconds that a running claim outlives its worker.",
    "store_timeout": "Longest that one store call, or one report of progress, may take, in "
    "seconds.",
    "publish_timeout": "Longest that a call with a fallback waits for store, broker and result "
    "backend together, in seconds; if it is set, it holds for every call of a task with a policy.",
}

#: What switches everything off, in the environment, and how it may be written.
SWITCH = "JOBTASTIC_ENABLED"
ON_AND_OFF = {"1": True, "true": True, "on": True, "0": False, "false": False, "off": False}

#: Where a policy is looked for if nobody says: in the working directory.
DEFAULT_POLICY = "jobtastic.yaml"

#: Schemes of Celery's URLs that a `RedisStore` understands.
REDIS_SCHEMES = ("redis", "rediss", "redis+socket", "socket", "sentinel")

#: Celery's databases that an `SQLStore` understands, and Django's.
DATABASES = re.compile(r"db\+(postgresql|mysql|mariadb)(\+\w+)?://|django-db$")

#: Brokers that exist on one machine only, so that a file is shared as far as they are.
LOCAL_BROKERS = ("filesystem", "sqla+sqlite", "sqlalchemy+sqlite")

#: Celery's settings for what its URLs cannot carry.
BACKEND_OPTIONS = ("result_backend_transport_options", "redis_backend_use_ssl")
BROKER_OPTIONS = ("broker_transport_options", "broker_use_ssl")

#: What a key may begin with: safe in every store, and easy to find with ``SCAN``.
KEY_PREFIX = re.compile(r"[A-Za-z0-9_.:{}-]{1,100}")


class Conf(Protocol):
    """The part of ``app.conf`` that is used here."""

    def get(self, key: str, default: Any = None) -> Any: ...

    def __iter__(self) -> Iterator[str]: ...


class Settings(Struct, frozen=True, kw_only=True):
    """Settings of one app.  Times are seconds."""

    #: Path of the policy file, or the policy itself.
    policy: str | Mapping[str, Any]
    #: Somebody named it, by the setting or the environment; else it is where one is looked for.
    policy_is_named: bool = True
    #: URL of the store of claims.
    store: str
    #: Options for the store that its URL cannot carry.
    store_options: Mapping[str, Any]
    #: URL of the result backend, if it is Redis, and its options.
    results: str | None = None
    results_options: Mapping[str, Any] = {}
    #: The same of the broker.
    queues: str | None = None
    queues_options: Mapping[str, Any] = {}
    #: What every key begins with.
    key_prefix: str = "jobtastic"
    #: How long a running claim outlives its worker.
    lease: float = 30.0
    #: Longest that one store call may take.
    store_timeout: float = 0.5
    #: Longest that a call with a fallback waits for store, broker and result backend together.
    publish_timeout: float = 1.0
    #: It was not set, so that it holds for calls with a fallback only.
    is_patient: bool = True


def read_settings(conf: Conf, main: str | None = None) -> Settings:
    """Read and check the ``jobtastic_*`` settings of an app called `main`.

    Raises `ConfigurationError` that names every setting that is wrong, and what to write.
    """
    complaints: list[str] = []

    def ask(name: str, default: Any, check: Callable[[str, Any], Any]) -> Any:
        found = conf.get(name)
        if found is None:
            return default
        try:
            return check(name, found)
        except ConfigurationError as error:
            complaints.append(str(error))
            return default

    named = os.environ.get("JOBTASTIC_POLICY")
    policy = ask("jobtastic_policy", named or DEFAULT_POLICY, _policy)
    key_prefix = ask("jobtastic_key_prefix", None, _prefix) or default_namespace(conf, main)
    lease = ask("jobtastic_lease", 30.0, _seconds)
    store_timeout = ask("jobtastic_store_timeout", 0.5, _seconds)
    publish_timeout = ask("jobtastic_publish_timeout", 1.0, _seconds)
    results, results_options = _redis(conf, "result_backend", BACKEND_OPTIONS)
    queues, queues_options = _redis(conf, "broker_url", BROKER_OPTIONS)
    store = ""
    options: dict[str, Any] = {}
    try:
        store, options = _store(conf)
    except ConfigurationError as error:
        complaints.append(str(error))
    if complaints:
        raise ConfigurationError("; ".join(complaints))
    return Settings(
        policy=policy,
        policy_is_named=bool(named or conf.get("jobtastic_policy") is not None),
        store=store,
        store_options=options,
        results=results,
        results_options=results_options,
        queues=queues,
        queues_options=queues_options,
        key_prefix=key_prefix,
        lease=lease,
        store_timeout=store_timeout,
        publish_timeout=publish_timeout,
        is_patient=conf.get("jobtastic_publish_timeout") is None,
    )


def switched_off(conf: Conf) -> str:
    """Return what switches everything off: the setting, or the environment; empty if nothing does.

    Raises `ConfigurationError` for what is neither on nor off.
    """
    found = conf.get("jobtastic_enabled")
    for name, value in (("jobtastic_enabled", found), (SWITCH, os.environ.get(SWITCH) or None)):
        if value is None:
            continue
        is_on = value if isinstance(value, bool) else ON_AND_OFF.get(str(value).lower())
        if is_on is None:
            raise ConfigurationError(f"{name} is {value!r}; expected true or false, 1 or 0")
        if not is_on:
            return f"{name}={value}"
    return ""


def misspelt(conf: Conf) -> list[str]:
    """Name each setting that looks like one of ours and that nobody reads, with the nearest.

    With a namespace (``CELERY_JOBTASTIC_LEASE``) Celery reads names in its case, and bare ones in
    lower case; without one, in lower case only.
    """
    namespace: str = getattr(conf, "prefix", None) or ""
    written = namespace + (PREFIX.upper() if namespace.isupper() else PREFIX)
    names = {name: written + (name.upper() if namespace.isupper() else name) for name in NAMES}
    read = {*names.values(), *(PREFIX + name for name in NAMES)}
    found = []
    for key in sorted({str(key) for key in conf}):
        bare = key.lower().removeprefix(namespace.lower())
        if key in read or not bare.startswith(PREFIX):
            continue
        near = get_close_matches(bare.removeprefix(PREFIX), NAMES, n=1)
        nearest = f"; did you mean `{names[near[0]]}`?" if near else ""
        if near or key.islower() or key.startswith(namespace or PREFIX):  # or it is another's
            found.append(f"the setting `{key}` is not known, and has no effect{nearest}")
    return found


def shown(url: str) -> str:
    """Return a URL as a log may show it: without who logs in, and without options."""
    places = re.split(r";(?=[a-z+]+://)", url)
    return ";".join(re.sub(r"://.*@", "://", place.partition("?")[0]) for place in places)


def default_store(backend: str | None, broker: str | None) -> str:
    """Choose where claims live: in one of Celery's own Redis, in memory, in a local file, or where
    the results are."""
    for url in (backend, broker):
        if url and scheme(url) == "sentinel":
            return url
        if url and scheme(url) in REDIS_SCHEMES:
            return url.partition(";")[0]  # of a broker's alternatives, the first
    if broker and scheme(broker) == "memory":
        return "memory://"  # what lives in one process keeps its claims there
    if broker and scheme(broker) in LOCAL_BROKERS:
        return f"sqlite:///{Path.cwd() / 'jobtastic.sqlite3'}"
    if backend and DATABASES.match(backend):
        return "django-db://default" if backend == "django-db" else backend
    raise ConfigurationError(
        "jobtastic_store is not set, and neither the result backend nor the broker is Redis, "
        "nor are the results in PostgreSQL or MySQL; "
        "set jobtastic_store to a URL that producers and workers share, such as "
        "redis://localhost/2, db+postgresql://localhost/reports, memcached://localhost, "
        "django://default (of Django's CACHES), or "
        "sqlite:////var/lib/reports/jobtastic.sqlite3 on one machine"
    )


def scheme(url: str) -> str:
    """Return what comes before ``://``, without Celery's optional ``redis+`` of sockets."""
    return url.partition("://")[0].lower()


def _store(conf: Conf) -> tuple[str, dict[str, Any]]:
    backend, broker = _url(conf, "result_backend"), _url(conf, "broker_url")
    chosen = conf.get("jobtastic_store")
    if chosen is None:
        chosen = default_store(backend, broker)
    elif not isinstance(chosen, str) or "://" not in chosen:
        raise ConfigurationError(
            "jobtastic_store is no URL; expected one such as redis://localhost/2"
        )
    if DATABASES.match(chosen):
        return chosen, _connect_args(conf) if chosen == backend else {}
    if chosen == backend:
        return _with_options(chosen, conf, *BACKEND_OPTIONS)
    if chosen == broker:
        return _with_options(chosen, conf, *BROKER_OPTIONS)
    return chosen, {}


def _redis(conf: Conf, name: str, options: tuple[str, str]) -> tuple[str | None, dict[str, Any]]:
    """Return one of Celery's own URLs, with its options, if it is Redis."""
    found = _url(conf, name)
    if found is None or scheme(found) not in REDIS_SCHEMES:
        return None, {}
    if scheme(found) != "sentinel":
        found = found.partition(";")[0]  # of a broker's alternatives, the first
    return _with_options(found, conf, *options)


def _with_options(
    chosen: str, conf: Conf, transport_setting: str, ssl_setting: str
) -> tuple[str, dict[str, Any]]:
    """Return Celery's URL of a Redis, and what else its clients are given."""
    options: dict[str, Any] = {}
    transport, ssl = conf.get(transport_setting) or {}, conf.get(ssl_setting)
    for name in ("master_name", "sentinel_kwargs"):
        if name in transport:
            options[name] = transport[name]
    if isinstance(ssl, Mapping):
        options.update(ssl)
        chosen = re.sub(r"^redis://", "rediss://", chosen)
    return chosen, options


def _connect_args(conf: Conf) -> dict[str, Any]:
    """Return what Celery's own database backend gives its driver beside the URL."""
    engine = conf.get("database_engine_options") or {}
    found = engine.get("connect_args") if isinstance(engine, Mapping) else None
    return {"connect_args": found} if found else {}


def _url(conf: Conf, name: str) -> str | None:
    # Celery keeps the backend and the broker under properties that also read the environment.
    found = getattr(conf, name, None) or conf.get(name)
    return found if isinstance(found, str) else None


def _policy(name: str, found: Any) -> str | Mapping[str, Any]:
    if isinstance(found, Mapping):
        return found
    if isinstance(found, str | os.PathLike):
        return os.fspath(found)
    raise ConfigurationError(f"{name} is {found!r}; expected a path, or the policy as a mapping")


def _prefix(name: str, found: Any) -> str:
    if isinstance(found, str) and KEY_PREFIX.fullmatch(found):
        return found
    raise ConfigurationError(
        f"{name} is {found!r}; expected 1 to 100 letters, digits or any of _ . : {{ }} -"
    )


def _seconds(name: str, found: Any) -> float:
    number = isinstance(found, int | float) and not isinstance(found, bool)
    if number and isfinite(found) and 0.01 <= found <= 31_536_000:
        return float(found)
    raise ConfigurationError(f"{name} is {found!r}; expected seconds, from 0.01 to a year")
