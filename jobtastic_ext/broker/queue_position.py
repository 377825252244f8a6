"""How many messages a queued task waits for, where the broker lets that be known cheaply."""

from __future__ import annotations

import json
import logging
from typing import Any, Protocol

from celery import Celery

from ..errors import StoreError, StoreUnavailable
from ..resilience.circuit_breaker import CircuitBreaker

logger = logging.getLogger("jobtastic_ext")

#: So many messages are looked at; for one further back nothing is said.
MOST = 50

#: What kombu's Redis transport puts between the name of a queue and a priority, and its priorities.
SEPARATOR, STEPS = "\x06\x16", (0, 3, 6, 9)


class Queues(Protocol):
    """A broker whose queues can be looked at."""

    def ahead(self, lists: list[str], task_id: str, most: int) -> int | None: ...


class QueuePositions:
    """Tells how many messages of the same queue workers will take before a task's."""

    def __init__(self, app: Celery, queues: Queues, breaker: CircuitBreaker) -> None:
        self.app, self.queues, self.breaker = app, queues, breaker

    def of(
        self, task_id: str, *, task: str | None = None, queue: str | None = None
    ) -> dict[str, Any] | None:
        """Return ``{"ahead": n}`` for a task that waits in its queue; None if that is not known."""
        lists = lists_of(self.app, queue or name_of(self.app, task))
        written = json.dumps(task_id)[1:-1]
        try:
            ahead = self.breaker.call(
                lambda: self.queues.ahead(lists, written, MOST), StoreUnavailable
            )
        except StoreError:
            return None
        return None if ahead is None else {"ahead": ahead}


def name_of(app: Celery, task: str | None) -> str:
    """Return the name of the queue that a task goes to."""
    if task is not None:
        queue = app.amqp.router.route({}, task).get("queue")
        if queue is not None:
            return str(getattr(queue, "name", queue))
    return str(app.conf.task_default_queue)


def lists_of(app: Celery, queue: str) -> list[str]:
    """Return the names of the lists that make up a queue, the first to be served first."""
    options = app.conf.broker_transport_options or {}
    prefix = options.get("global_keyprefix", "")
    separator, steps = options.get("sep", SEPARATOR), options.get("priority_steps", STEPS)
    return [f"{prefix}{queue}{separator}{step}" if step else f"{prefix}{queue}" for step in steps]
