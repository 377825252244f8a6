"""Publishing without a subscription to the result, where the backend is Redis.

Celery subscribes to each result as it publishes, for a `get()` in the same process; but `get()`
subscribes by itself.  Without it a publish is one command instead of three, and a dead result
backend does not hold it up (19 s on Celery 5.7).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cached_property
from typing import Any
from weakref import WeakSet

from celery import Celery
from celery.backends.base import Backend

from .kinds import backend_class

#: Set while a policy task is published.
_unsubscribed: ContextVar[bool] = ContextVar("jobtastic_unsubscribed", default=False)


class Subscriptions:
    """Those of one app's backend objects, of which each thread has its own."""

    def __init__(self, app: Celery) -> None:
        self._app = app
        self._quiet: WeakSet[Backend] = WeakSet()

    @cached_property
    def _is_redis(self) -> bool:
        return "RedisBackend" in (kind.__name__ for kind in backend_class(self._app).__mro__)

    @contextmanager
    def unsubscribed(self) -> Iterator[None]:
        """Publish without subscribing to the result, where the backend is Redis."""
        if not self._is_redis:
            yield
            return
        backend = self._app.backend
        if "on_task_call" not in backend.__dict__:
            quieten(backend)
            self._quiet.add(backend)
        token = _unsubscribed.set(True)
        try:
            yield
        finally:
            _unsubscribed.reset(token)

    def restore(self) -> None:
        """Put every backend object back as it was."""
        for backend in list(self._quiet):
            backend.__dict__.pop("on_task_call", None)
        self._quiet.clear()


def quieten(backend: Backend) -> None:
    """Make a Redis backend's subscription depend on `_unsubscribed`."""
    subscribe = backend.on_task_call

    def on_task_call(producer: Any, task_id: str) -> Any:
        return None if _unsubscribed.get() else subscribe(producer, task_id)

    backend.on_task_call = on_task_call
