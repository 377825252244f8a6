"""How many messages a queued task waits for, where the broker lets that be known cheaply."""

from __future__ import annotations

import json
import logging
from typing import Any

from celery import Celery

from ..errors import StoreError, StoreUnavailable
from ..runtime import Runtime, runtime_of

__all__ = ("MOST", "queue_of")

logger = logging.getLogger("jobtastic_ext")

#: So many messages are looked at; for one further back nothing is said.
MOST = 50

#: What kombu's Redis transport puts between the name of a queue and a priority, and its priorities.
SEPARATOR, STEPS = "\x06\x16", (0, 3, 6, 9)


def queue_of(
    app: Celery, task_id: str, *, task: str | None = None, queue: str | None = None
) -> dict[str, Any] | None:
    """Return ``{"ahead": n}`` for a task that waits in its queue; None if that is not known.

    `n` counts the messages of the same queue that workers will take before this one.  What workers
    have taken already, to run it or to hold it ready, is not among them.  `queue` defaults to the
    one that a task called `task` is routed to, else to the app's default.

    Known on a Redis broker for the next 50 messages, unless they are large: the ends of its lists
    are looked at twice a second at most, in the server.  No other broker tells.  When the task
    starts is not said: nobody but the workers knows how many of them take from this queue.
    """
    runtime = runtime_of(app)
    if runtime is None or runtime.queues is None:
        return None
    lists = lists_of(runtime, queue or name_of(app, task))
    written = json.dumps(task_id)[1:-1]
    queues, breaker = runtime.queues, runtime.queues_breaker
    try:
        ahead = breaker.call(lambda: queues.ahead(lists, written, MOST), StoreUnavailable)
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


def lists_of(runtime: Runtime, queue: str) -> list[str]:
    """Return the names of the lists that make up a queue, the first to be served first."""
    options = runtime.app.conf.broker_transport_options or {}
    prefix = options.get("global_keyprefix", "")
    separator, steps = options.get("sep", SEPARATOR), options.get("priority_steps", STEPS)
    return [f"{prefix}{queue}{separator}{step}" if step else f"{prefix}{queue}" for step in steps]
