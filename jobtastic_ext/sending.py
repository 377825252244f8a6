"""Sends one message of a task within the deadline that its call has."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

from celery.app.task import Task
from celery.result import AsyncResult
from kombu.exceptions import OperationalError

from .decisions import log_decision
from .runtime import Runtime

__all__ = ("Publish", "Sending")

Publish = Callable[..., AsyncResult]

#: Options by which a caller says how to reach the broker: they are taken at their word.
OWN_WAY = ("producer", "connection", "retry", "retry_policy")


class Sending:
    """A call on its way to the broker.

    `mode` is what happens if it cannot be sent: ``raise``, ``eager`` or ``fail``.  The deadline
    counts from here, for the store, the broker and the result backend together.
    """

    def __init__(
        self,
        runtime: Runtime,
        publish: Publish,
        task: Task,
        args: Any,
        kwargs: Any,
        options: dict[str, Any],
        mode: str,
    ) -> None:
        self.runtime, self.task, self.mode = runtime, task, mode
        self.args, self.kwargs, self.options = args, kwargs, options
        self._publish = publish
        self.until = time.monotonic() + runtime.settings.publish_timeout

    @property
    def left(self) -> float:
        """Seconds until the deadline."""
        return max(self.until - time.monotonic(), 0.0)

    def send(self, **changes: Any) -> AsyncResult:
        """Publish with the call's options and these `changes`.

        Raises `kombu.exceptions.OperationalError` if the broker does not take the message.
        """
        options = {**self.options, **changes}
        if self.mode == "raise" and any(options.get(name) for name in OWN_WAY):
            return self._publish(self.task, self.args, self.kwargs, **options)
        for name in OWN_WAY:
            options.pop(name, None)
        with self.runtime.subscriptions.unsubscribed():
            return self.runtime.broker.publish(
                lambda producer: self._publish(
                    self.task, self.args, self.kwargs, producer=producer, **options
                ),
                self.until,
                certain=self.mode != "raise",
            )

    def result(self, task_id: str, meta: Any = None) -> AsyncResult:
        """Return the result of another task that serves this call, with its outcome if known."""
        result = self.task.AsyncResult(task_id)
        if meta is not None:
            # Not `_maybe_set_cache`: before Celery 5.7 that unsubscribes under a lock in which the
            # garbage collector can hang the caller.
            result._set_cache(meta)
        parent = self.runtime.app.current_worker_task
        if parent and self.options.get("add_to_parent", True):
            parent.add_trail(result)
        return result

    def log(
        self, task_id: str, key: str, decision: str, why: str, level: int = logging.INFO
    ) -> None:
        log_decision(self.task.name, task_id, key, decision, why, level)

    def check(self) -> None:
        """Raise OperationalError if the server that the store is on is the broker's as well.

        For a call with a fallback whose store has just proved unreachable: a message that is
        written to a stopped server may be carried out when it goes on, beside the fallback.
        """
        if self.mode != "raise" and self.runtime.broker_shares_store:
            raise OperationalError("the broker's server, which is the store's, does not answer")
