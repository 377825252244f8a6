"""Where a call was sent by name: the same for its caller and for the worker with its message."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from celery import Celery
from celery.app.task import Task

logger = logging.getLogger("jobtastic_ext")

#: The options that name where a message goes.
OPTIONS = ("queue", "exchange", "routing_key")

#: The exchange through which RabbitMQ delays a message; the routing key ends in the message's own.
DELAYED, DIGITS = "celery_delayed_delivery", 28

Place = tuple[str, ...]


class Routes:
    """What an app's routes make of a call: a place is ``(exchange, routing key)``.

    A call that names no place goes where `task_routes` and the task say, which follows from the
    task and its arguments, and so counts for nothing.
    """

    def __init__(self, app: Celery) -> None:
        self._app = app

    @cached_property
    def _router(self) -> Any:
        # With queues of its own: to look one up makes it, and a worker takes from what it has.
        amqp = self._app.amqp
        return amqp.Router(queues=amqp.Queues(dict(amqp.queues)))

    def named(self, task: Task, args: Any, kwargs: Any, options: Mapping[str, Any]) -> Place:
        """Return the place that a call names; () if it names none, or the one it goes to anyway."""
        given = {name: options[name] for name in OPTIONS if options.get(name) is not None}
        if not given:
            return ()
        try:
            place = self._place(task, args, kwargs, {**own(task), **given})
        except Exception:  # noqa: BLE001 - Celery reports it when it sends the message
            return tuple(str(given.get(name)) for name in OPTIONS)
        return () if place in self._unnamed(task, args, kwargs) else place

    def delivered(
        self, task: Task, args: Any, kwargs: Any, info: Mapping[str, Any] | None
    ) -> Place:
        """Return the place that the sender of a message must have named, as `named` does."""
        if not info:
            return ()
        place: Place = (str(info.get("exchange") or ""), str(info.get("routing_key") or ""))
        usual = self._unnamed(task, args, kwargs)
        if place[0] == DELAYED:
            key = place[1].split(".", DIGITS)[-1]
            place = next((known for known in usual if known[1] == key), ("", key))
        return () if place in usual else place

    def _unnamed(self, task: Task, args: Any, kwargs: Any) -> Sequence[Place]:
        """Return where the task goes if nobody names a place, called here or sent by name."""
        places = []
        for options in (own(task), {}):
            try:
                places.append(self._place(task, args, kwargs, dict(options)))
            except Exception as error:  # noqa: BLE001 - somebody's router
                logger.debug("%s: its route is not known: %r", task.name, error)
        return places

    def _place(self, task: Task, args: Any, kwargs: Any, options: dict[str, Any]) -> Place:
        """Return what `AMQP.send_task_message` makes of options."""
        options = self._router.route(options, task.name, args or (), kwargs or {}, task_type=task)
        queue: Any = options.get("queue")
        exchange, key = options.get("exchange"), options.get("routing_key")
        if queue is None and exchange is None:
            queue = self._app.amqp.default_queue
        kind = options.get("exchange_type") or getattr(
            getattr(queue, "exchange", None), "type", "direct"
        )
        if (not exchange or not key) and kind == "direct":
            return "", str(getattr(queue, "name", queue))
        if exchange is None:
            exchange = queue.exchange.name or self._app.amqp.default_exchange
            key = key or queue.routing_key or self._app.conf.task_default_routing_key
        return str(getattr(exchange, "name", exchange)), str(key or "")


def own(task: Task) -> dict[str, Any]:
    """Return the place that the task itself names."""
    return {name: found for name in OPTIONS if (found := getattr(task, name, None)) is not None}
