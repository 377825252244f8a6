"""What the runtime asks of an app's result backend, within a bound of time.

Celery's own reads and writes wait for minutes on a backend that is silent, and try again for many
seconds on one that refuses.  So there is a second backend object, made of the same settings, whose
sockets have a timeout and which tries once.  Where sockets take none, a thread keeps the time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cached_property
from math import ceil, isinf
from typing import Any, TypeVar

from billiard.exceptions import TimeLimitExceeded, WorkerLostError
from celery import Celery, states
from celery.app.task import Task
from celery.backends.base import Backend, DisabledBackend
from celery.exceptions import BackendStoreError
from kombu.exceptions import ContentDisallowed, DecodeError, EncodeError

from ..errors import ResultsUnavailable
from ..protocol import Outcome
from ..resilience.circuit_breaker import CircuitBreaker
from ..resilience.deadline import within

__all__ = ("ONE_VALUE", "ResultBackend", "hasten", "holds_outcomes", "unshareable")

T = TypeVar("T")

#: What concerns one value, and says nothing of the backend.
ONE_VALUE = (
    EncodeError,
    DecodeError,
    ContentDisallowed,
    BackendStoreError,
    TypeError,
    ValueError,
)

#: Set while a policy task is published; see `ResultBackend.unsubscribed`.
_unsubscribed: ContextVar[bool] = ContextVar("jobtastic_unsubscribed", default=False)


class ResultBackend:
    """Reads, keeps and writes results in an app's result backend, each within `timeout` seconds.

    Every method raises `ResultsUnavailable` for whatever the backend's driver raises, and at once
    during an outage.
    """

    def __init__(self, app: Celery, timeout: float) -> None:
        self._app, self._timeout = app, timeout
        self.circuit = CircuitBreaker(
            "the result backend",
            self._probe,
            consequence="results and progress are not read or written meanwhile",
        )

    @cached_property
    def _backend(self) -> Backend:
        return hasten(self._app._get_backend(), self._timeout)

    @property
    def takes_outcomes(self) -> bool:
        """Whether others can read what is stored here for a task that no worker has run."""
        return holds_outcomes(self._backend)

    def ask(self, question: Callable[[Backend], T], what: str) -> T:
        """Return what `question(backend)` returns; `what` says in an error what was asked."""
        if self.circuit.is_open:
            raise ResultsUnavailable(f"{what}: the result backend is not answering")
        try:
            answer = self._bounded(lambda: question(self._backend))
        except ONE_VALUE as error:
            raise ResultsUnavailable(f"{what}: {error}") from error
        except Exception as error:
            self.circuit.failed(error)
            raise ResultsUnavailable(f"{what}: {error}") from error
        self.circuit.succeeded()
        return answer

    def _bounded(self, function: Callable[[], T]) -> T:
        if keeps_time(self._backend):
            return function()
        return within(self._timeout, function, lambda _: None)

    def _probe(self) -> None:
        self._bounded(lambda: self._backend._get_task_meta_for("jobtastic-probe"))

    def close(self) -> None:
        """Stop asking whether the backend is back, and close what is open."""
        self.circuit.close()
        backend = self.__dict__.pop("_backend", None)
        client: Any = backend.__dict__.get("client") if backend is not None else None
        if hasattr(client, "connection_pool"):
            client.connection_pool.disconnect()

    def outcome(self, task_id: str) -> Outcome | None:
        """Return how the task ended; None while it has not, or if the result is gone."""
        # Not `AsyncResult`, whose cache would show a result that has been deleted, and not
        # `get_task_meta`, which retries for ever with result_backend_always_retry.
        meta = self.ask(
            lambda backend: backend._get_task_meta_for(task_id),
            f"cannot read the result of {task_id}",
        )
        state, value = meta["status"], meta["result"]
        if state not in states.READY_STATES:
            return None
        failed = state != states.SUCCESS
        shareable = not failed or (
            state == states.FAILURE and isinstance(value, Exception) and not is_loss(value)
        )
        return Outcome(shareable, failed, value, meta)

    def keep(self, task_id: str, seconds: float) -> None:
        """Let a result live at least so long, where the backend can change its expiry."""
        self.ask(
            lambda backend: stretch(backend, task_id, seconds),
            f"cannot stretch the expiry of the result of {task_id}",
        )

    def store(self, task_id: str, value: Any, state: str, traceback: str | None = None) -> None:
        """Record how a task ended that no worker has run, so that nobody waits for it."""
        self.ask(
            lambda backend: backend.store_result(task_id, value, state, traceback),
            f"cannot store the result of {task_id}",
        )

    def pass_on(self, task_id: str, ids: Iterable[str]) -> None:
        """Give others the outcome of `task_id`, those that have none of their own."""
        outcome = self.outcome(task_id)
        if outcome is None:
            return
        for other in ids:
            if self.outcome(other) is None:
                self.store(other, outcome.value, outcome.meta["status"])

    @contextmanager
    def unsubscribed(self) -> Iterator[None]:
        """Publish without subscribing to the result, where the backend is Redis.

        Celery subscribes to each result as it publishes, for a `get()` in the same process; but
        `get()` subscribes by itself.  Without it a publish is one command instead of three, and a
        dead result backend does not hold it up (19 s on Celery 5.7).
        """
        backend = self._app.backend
        if "on_task_call" not in backend.__dict__:
            quieten(backend)
        token = _unsubscribed.set(True)
        try:
            yield
        finally:
            _unsubscribed.reset(token)

    def restore(self) -> None:
        """Undo what `unsubscribed` did to the backend of this thread."""
        self._app.backend.__dict__.pop("on_task_call", None)


def hasten(backend: Backend, timeout: float) -> Backend:
    """Make a backend object try once, and wait for its sockets no longer than `timeout`."""
    backend.always_retry = False
    backend.retry_policy = {**backend.retry_policy, "max_retries": 0}
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


def keeps_time(backend: Backend) -> bool:
    """Whether `hasten` is enough: one server, whose sockets have a timeout."""
    return type(backend).__name__ in ("RedisBackend", "DisabledBackend")


def holds_outcomes(backend: Backend) -> bool:
    """Whether anybody can read what is stored; rpc:// answers one caller's message only."""
    # By its name: the module of rpc:// is not to be imported for this.
    return not isinstance(backend, DisabledBackend) and type(backend).__name__ != "RPCBackend"


def stretch(backend: Backend, task_id: str, seconds: float) -> None:
    expires = backend.expires
    if not expires or seconds <= expires or not hasattr(backend, "get_key_for_task"):
        return
    key = backend.get_key_for_task(task_id)
    if not isinf(seconds):
        backend.expire(key, ceil(seconds))
    elif hasattr(backend.client, "persist"):
        backend.client.persist(key)
    else:
        backend.expire(key, 0)  # memcached: no expiry


def is_loss(error: Exception) -> bool:
    """Whether a failure says something of the process, and nothing of the call."""
    return isinstance(error, WorkerLostError | TimeLimitExceeded)


def quieten(backend: Backend) -> None:
    """Make a Redis backend's subscription depend on `_unsubscribed`, once per backend object."""
    subscribe = backend.on_task_call
    if not hasattr(getattr(backend, "result_consumer", None), "subscribed_to"):
        backend.on_task_call = subscribe  # not Redis: as it was, and not asked again
        return

    def on_task_call(producer: Any, task_id: str) -> Any:
        return None if _unsubscribed.get() else subscribe(producer, task_id)

    backend.on_task_call = on_task_call


def unshareable(task: Task) -> str | None:
    """Say why the results of this task cannot be shared, and what to do; None if they can."""
    if task.ignore_result:
        return "its results are ignored; drop ignore_result=True, or take it out of the policy"
    if task._backend is not None:
        return "it has a result backend of its own; use the app's, or take it out of the policy"
    backend = task.app.backend
    if holds_outcomes(backend):
        return None
    if isinstance(backend, DisabledBackend):
        return "no result backend is configured; set result_backend to redis:// or another store"
    return (
        "rpc:// delivers a result to one caller only; "
        "set result_backend to redis:// or another store"
    )
