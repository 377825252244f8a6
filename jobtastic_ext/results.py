"""What the runtime asks of an app's result backend."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from math import ceil, isinf
from typing import Any

from billiard.exceptions import TimeLimitExceeded, WorkerLostError
from celery import Celery, states
from celery.app.task import Task
from celery.backends.base import Backend, DisabledBackend

from .errors import ResultsUnavailable
from .protocol import Outcome

__all__ = ("ResultBackend", "unshareable")

#: Set while a policy task is published; see `ResultBackend.unsubscribed`.
_unsubscribed: ContextVar[bool] = ContextVar("jobtastic_unsubscribed", default=False)


class ResultBackend:
    """Reads, keeps and writes results by an app's own result backend."""

    def __init__(self, app: Celery) -> None:
        self._app = app

    def outcome(self, task_id: str) -> Outcome | None:
        """Return how the task ended; None while it has not, or if the result is gone.

        Raises `ResultsUnavailable` for whatever the backend's driver raises.
        """
        try:
            # Not `AsyncResult`, whose cache would show a result that has been deleted, and not
            # `get_task_meta`, which retries for ever with result_backend_always_retry.
            meta = self._app.backend._get_task_meta_for(task_id)
        except Exception as error:
            raise ResultsUnavailable(f"cannot read the result of {task_id}: {error}") from error
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
        backend = self._app.backend
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

    def fail(self, task_id: str, error: BaseException) -> None:
        """Record that the task will never run, so that nobody waits for it."""
        self._app.backend.store_result(task_id, error, states.FAILURE)

    def pass_on(self, task_id: str, ids: Iterable[str]) -> None:
        """Give others the outcome of `task_id`, those that have none of their own."""
        outcome = self.outcome(task_id)
        if outcome is None:
            return
        for other in ids:
            if self.outcome(other) is None:
                self._app.backend.store_result(other, outcome.value, outcome.meta["status"])

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
    if isinstance(backend, DisabledBackend):
        return "no result backend is configured; set result_backend to redis:// or another store"
    if type(backend).__name__ == "RPCBackend":
        return (
            "rpc:// delivers a result to one caller only; "
            "set result_backend to redis:// or another store"
        )
    return None
