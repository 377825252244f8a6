"""Which result backend an app has, and what can be expected of it.  Connects to nothing."""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import Any, NamedTuple

from celery import Celery
from celery.app.backends import by_url
from celery.app.task import Task
from celery.backends.base import Backend, DisabledBackend
from celery.exceptions import BackendStoreError
from kombu.exceptions import ContentDisallowed, DecodeError, EncodeError


class Unshared(NamedTuple):
    """Why others cannot be given the results of a task, and what to do."""

    reason: str
    #: Its caller reads them, and whoever joined would wait for ever: not even runs are shared.
    readable: bool = False


#: What concerns one value, and says nothing of the backend.
ONE_VALUE = (
    EncodeError,
    DecodeError,
    ContentDisallowed,
    BackendStoreError,
    TypeError,
    ValueError,
)

#: What drivers call a server that cannot be reached; everything else is an answer of it.
UNREACHABLE = {
    "AutoReconnect",
    "BusyLoadingError",
    "ConnectionError",
    "ConnectionFailure",
    "EndpointConnectionError",
    "InterfaceError",
    "NoHostAvailable",
    "OperationalError",
    "ServerDown",
    "TimeoutError",
    "TransportError",
}
#: Answers of a Redis that its driver counts among the errors of a connection.
REFUSED = {"AuthenticationError", "AuthorizationError", "NoPermissionError"}
#: What an operating system says of a file.
OF_FILES = (PermissionError, FileNotFoundError, IsADirectoryError, NotADirectoryError)


#: What decides where and how a result is kept.
AS_REDIS_HAS_IT = (
    "set",
    "_set",
    "get",
    "_store_result",
    "store_result",
    "get_key_for_task",
    "_get_task_meta_for",
)


def backend_class(app: Celery) -> type[Backend]:
    """Return the class of the app's result backend; to make one may take a while, or fail."""
    found: type[Backend] = by_url(app.backend_cls or app.conf.result_backend, app.loader)[0]
    return found


def is_plain_redis(kind: type[Backend]) -> bool:
    """Whether it is Celery's own Redis backend, which keeps a result as it says."""
    try:
        from celery.backends.redis import RedisBackend
    except ImportError:
        return False
    return issubclass(kind, RedisBackend) and all(
        getattr(kind, name) is getattr(RedisBackend, name) for name in AS_REDIS_HAS_IT
    )


def holds_outcomes(kind: type[Backend]) -> bool:
    """Whether anybody can read what is stored; rpc:// answers one caller's message only."""
    # By its name: the module of rpc:// is not to be imported for this.
    return not issubclass(kind, DisabledBackend) and kind.__name__ != "RPCBackend"


def is_shared(kind: type[Backend]) -> bool:
    """Whether many threads may use one object at once; memcached's clients mix answers up."""
    return kind.__name__ in ("RedisBackend", "SentinelBackend", "DisabledBackend")


def publishes(backend: Backend) -> bool:
    """Whether the backend publishes what it stores (only Redis does)."""
    return hasattr(getattr(backend, "result_consumer", None), "subscribed_to")


def keeps_time(kind: type[Backend]) -> bool:
    """Whether `hasten` is enough: one server, whose sockets have a timeout."""
    return kind.__name__ in ("RedisBackend", "DisabledBackend")


def hasten(backend: Backend, timeout: float) -> Backend:
    """Make a backend object try once, and wait for its sockets no longer than `timeout`."""
    backend.always_retry = False
    backend.retry_policy = {**backend.retry_policy, "max_retries": 0}
    if hasattr(sys.modules.get(type(backend).__module__), "DEFAULT_CLIENT_OPTIONS"):
        # memcached since Celery 5.7; before, pylibmc has bounds of its own
        backend.options = {**backend.options, "connect_timeout": timeout, "timeout": timeout}
    sessions = getattr(backend, "session_manager", None)
    if sessions is not None:
        sessions.forked = True  # SQLAlchemy: it keeps its engine, and makes none for each question
    connparams = getattr(backend, "connparams", None)
    if connparams is None:
        return backend
    bounds: dict[str, Any] = {"socket_timeout": timeout}
    if "socket_connect_timeout" in connparams or "hosts" in connparams:  # not for a unix socket
        bounds["socket_connect_timeout"] = timeout
    connparams.update(bounds, retry_on_timeout=False)
    options = backend._transport_options
    sentinels = {**(options.get("sentinel_kwargs") or {}), **bounds}
    backend._transport_options = {**options, "sentinel_kwargs": sentinels}
    return backend


def close(backend: Backend) -> None:
    """Close the connections that a backend object holds; it makes new ones when it needs them."""
    client: Any = backend.__dict__.get("client")
    ways = (
        (getattr(client, "connection_pool", None), "disconnect"),  # Redis
        (client, "disconnect_all"),  # pylibmc
        (client, "close"),  # pymemcache, and most others
    )
    for holder, name in ways:
        if hasattr(holder, name):
            with suppress(Exception):  # it may be dead already
                getattr(holder, name)()
            break
    engines = getattr(getattr(backend, "session_manager", None), "_engines", {})
    for engine in list(engines.values()):  # SQLAlchemy, in a forked process
        engine.dispose()


def is_outage(error: BaseException) -> bool:
    """Whether an error says that the backend cannot be reached."""
    names = {kind.__name__ for kind in type(error).__mro__}
    if isinstance(error, ONE_VALUE) and not isinstance(error.__cause__, OSError):
        return False
    if names & REFUSED or isinstance(error, OF_FILES):
        return False
    return isinstance(error, OSError) or bool(names & UNREACHABLE)


def unshareable(task: Task) -> Unshared | None:
    """Say why others cannot be given the results of this task; None if they can."""
    if task.ignore_result:
        return Unshared("its results are ignored; drop ignore_result=True, or set this to -1")
    if task._backend is not None:
        return Unshared("it has a result backend of its own; use the app's", readable=True)
    kind = backend_class(task.app)
    if holds_outcomes(kind):
        return None
    if issubclass(kind, DisabledBackend):
        return Unshared(
            "no result backend is configured; set result_backend to redis:// or another store"
        )
    return Unshared(
        "rpc:// delivers a result to one caller only; set result_backend to redis:// or another "
        "store, or ignore_result=True if nobody reads it",
        readable=True,
    )


def wants_result(task: Task, ignores: bool | None) -> bool:
    """Whether a call has asked for the result of a task whose results are ignored otherwise."""
    asked = ignores is False and bool(task.ignore_result) and task._backend is None
    return asked and holds_outcomes(backend_class(task.app))
