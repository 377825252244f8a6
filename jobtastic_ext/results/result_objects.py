"""What the result objects of an app with the step know and do besides.

They know whose task it is.  To `forget` one leaves word for those who share it.  And under gevent
or eventlet `then` fires for a task that has ended already: with Celery alone the subscription that
a publish makes brings that about, and policy tasks are published without.
"""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable
from typing import Any

from celery import Celery, states
from celery.backends.asynchronous import greenletDrainer
from celery.result import AsyncResult

from ..errors import JobtasticError
from ..resilience.per_process import start_daemon
from .payloads import decode
from .reader import reads_of

logger = logging.getLogger("jobtastic_ext")

#: The attribute of a result that holds the name of its task, where that is known.
NAME = "jobtastic_task"

#: Seconds that the result backend may take.
TIMEOUT = 2.0

#: Told of a task that was forgotten: the app, its id, and the name of the task if that is known.
Forgotten = Callable[[Celery, str, str | None], object]


def enrich(app: Celery, forgotten: Forgotten) -> None:
    """Have the results of this app made by a class of ours, a subclass of its own."""
    base: Any = app.AsyncResult
    if hasattr(base, "jobtastic_looks"):
        return
    # Weakly: the app holds the class.
    owner, looks = weakref.proxy(app), Looks(app)

    class Result(base):  # type: ignore[misc]
        jobtastic_looks = looks
        #: What became of the call that returned this result; None where no policy decided.
        decision: str | None = None

        def __init__(
            self,
            id: str,
            backend: Any = None,
            task_name: str | None = None,
            app: Any = None,
            parent: Any = None,
        ) -> None:
            super().__init__(id, backend, task_name, app, parent)
            setattr(self, NAME, task_name)

        def forget(self) -> None:
            super().forget()
            forgotten(owner, self.id, getattr(self, NAME))

        def then(self, callback: Any, on_error: Any = None, weak: bool = False) -> Any:
            promise = super().then(callback, on_error, weak)
            if waits_in_greenlets(self.backend) and not self.on_ready.ready:
                looks.add(self)
            return promise

    Result.__name__, Result.__qualname__ = base.__name__, base.__qualname__
    Result.__module__, Result.__doc__ = base.__module__, base.__doc__
    app.AsyncResult = Result


def plain_again(app: Celery) -> None:
    """Undo `enrich`."""
    found: Any = vars(app).get("AsyncResult")
    if found is not None and "jobtastic_looks" in vars(found):
        app.AsyncResult = found.__bases__[0]


def waits_in_greenlets(backend: Any) -> bool:
    """Whether a greenlet hears of results, so that callbacks are called without a `get()`."""
    consumer = getattr(backend, "result_consumer", None)
    return isinstance(getattr(consumer, "drainer", None), greenletDrainer)


class Looks:
    """Looks whether tasks have ended that somebody has just begun to listen for: many at once."""

    def __init__(self, app: Celery) -> None:
        self._app = weakref.ref(app)
        self._waiting: list[AsyncResult] = []

    def add(self, result: AsyncResult) -> None:
        if result._cache is not None and result._cache["status"] in states.READY_STATES:
            result.on_ready(result)
            return
        self._waiting.append(result)
        if len(self._waiting) == 1:
            start_daemon(self._look, "then")

    def _look(self) -> None:
        results, self._waiting = self._waiting, []
        app = self._app()
        if app is None:
            return
        reads = reads_of(app)
        try:
            found = reads.payloads([result.id for result in results], TIMEOUT)
        except JobtasticError as error:
            logger.info("callbacks of %d tasks wait for what they publish: %s", len(results), error)
            return
        for result, payload in zip(results, found, strict=True):
            try:
                result._maybe_set_cache(decode(reads.backend(), payload, result.id))
            except Exception as error:  # noqa: BLE001 - of a value, or of somebody's callback
                logger.warning("the callback of task %s is not called: %r", result.id, error)
