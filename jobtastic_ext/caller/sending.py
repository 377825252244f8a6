"""Sends one message of a task within the deadline that its call has."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from celery import Celery
from celery.app.task import Task
from celery.result import AsyncResult
from kombu.exceptions import OperationalError

from ..broker.lines import Lines
from ..broker.publisher import NOT_TAKEN, Broker
from ..broker.routing import Routes
from ..claims.decision_log import log_decision
from ..claims.store import Store
from ..counts.tally import Tally
from ..policy.model import Plan
from ..resilience.outbox import Outbox
from ..results.backend import Backend
from ..results.subscriptions import Subscriptions
from ..settings import Settings

Publish = Callable[..., AsyncResult]

#: Options by which a caller says how to reach the broker: they are taken at their word.
OWN_WAY = ("producer", "connection", "retry", "retry_policy")

#: Options that only a canvas sets.  The rest of it could not follow a part that ended at the
#: caller, so such a call raises, whatever the policy.
CANVAS = ("chord", "chain", "group_id")

#: Callbacks that a run in this process would have to send through the broker that is down.
LINKS = ("link", "link_error")


@dataclass(frozen=True, kw_only=True)
class Caller:
    """What the caller's path is handed."""

    app: Celery
    settings: Settings
    plan: Callable[[Task], Plan | None]
    routes: Routes
    #: Warns of a thing once in this process.
    tell_once: Callable[..., None]
    store: Store
    #: The store without its circuit breaker.
    direct_store: Store
    results: Backend
    subscriptions: Subscriptions
    broker: Broker
    lines: Lines
    broker_shares_store: bool
    tally: Tally
    #: Of each process.
    owed_to_store: Callable[[], Outbox]
    owed_to_results: Callable[[], Outbox]


class Sending:
    """A call on its way to the broker.

    `mode` is what happens if it cannot be sent: ``raise``, ``eager`` or ``fail``; some calls cannot
    have their policy's fallback.  For those that have one a deadline counts from here, for the
    store, the broker and the result backend together.  The others have Celery's own patience.
    """

    def __init__(
        self,
        caller: Caller,
        publish: Publish,
        task: Task,
        args: Any,
        kwargs: Any,
        options: dict[str, Any],
        mode: str,
    ) -> None:
        self.caller, self.task = caller, task
        self.args, self.kwargs, self.options = args, kwargs, options
        needs = CANVAS + LINKS if mode == "eager" else CANVAS
        self.mode = "raise" if any(options.get(name) for name in needs) else mode
        #: Whether this call takes as long as Celery lets it.
        self.is_patient = self.mode == "raise" and caller.settings.is_patient
        self._publish = publish
        self.until = time.monotonic() + caller.settings.publish_timeout

    @property
    def left(self) -> float:
        """Seconds until the deadline."""
        return max(self.until - time.monotonic(), 0.0)

    @property
    def ignored(self) -> bool:
        """Whether nobody waits for the result: to `get` it answers None at once."""
        asked = self.options.get("ignore_result")
        return bool(self.task.ignore_result if asked is None else asked)

    def send(self, **changes: Any) -> AsyncResult:
        """Publish with the call's options and these `changes`.

        Raises `kombu.exceptions.OperationalError` if the broker does not take the message; without
        a deadline, whatever Celery raises then.
        """
        options = {**self.options, **changes}
        broker, has_own_way = self.caller.broker, any(options.get(name) for name in OWN_WAY)
        if self.is_patient or (self.mode == "raise" and has_own_way):
            broker.leave_to_the_parent()
            with self.caller.subscriptions.unsubscribed():
                return self._publish(self.task, self.args, self.kwargs, **options)
        for name in OWN_WAY:
            options.pop(name, None)
        # What the store took is not the broker's fault: it has a time of its own in any case.
        until = max(self.until, time.monotonic() + broker.timeout)
        with self.caller.subscriptions.unsubscribed():
            return broker.publish(
                lambda producer: self._publish(
                    self.task, self.args, self.kwargs, producer=producer, **options
                ),
                until,
                certain=self.mode != "raise",
            )

    def result(self, task_id: str, meta: Any = None) -> AsyncResult:
        """Return the result of another task that serves this call, with its outcome if known."""
        result = self.task.AsyncResult(task_id)
        result.ignored = self.ignored
        if meta is not None:
            # Not `_maybe_set_cache`: before Celery 5.7 that unsubscribes under a lock in which the
            # garbage collector can hang the caller.
            result._set_cache(meta)
        parent = self.caller.app.current_worker_task
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
        if self.mode != "raise" and self.caller.broker_shares_store:
            raise OperationalError(f"{NOT_TAKEN}; the store is on the same server, and is silent")


#: The attribute of a result that holds the word by which its call is counted.
COUNTED = "jobtastic_counted"


def decided(result: Any, word: str, counted: str = "") -> Any:
    """Return a result that says what became of its call; it is counted by that or a closer word."""
    result.decision = word
    result.__dict__.setdefault(COUNTED, counted or word)
    return result
