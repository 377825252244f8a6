"""What a delivered message holds: how it was encoded, and which call it is."""

from __future__ import annotations

from typing import Any

from celery.app.task import Context, Task
from kombu.serialization import registry

from ..broker.routing import Routes
from ..celery_internals import CONTENT, carried_headers, custom_headers
from ..claims.header import Header
from ..policy.model import Plan


def content_of(request: Context) -> dict[str, Any]:
    """Return the options by which a message is encoded, and shown in logs, as this one was."""
    options = {
        "serializer": registry.type_to_name.get(getattr(request, CONTENT, None)),
        "compression": getattr(request, "compression", None),
        "argsrepr": getattr(request, "argsrepr", None),  # not in messages of every language
        "kwargsrepr": getattr(request, "kwargsrepr", None),
    }
    return {name: value for name, value in options.items() if value is not None}


def key_of(
    plan: Plan, routes: Routes, task: Task, header: Header, request: Any
) -> tuple[str, tuple[str, ...]]:
    """Return the key of a message, and the place that its caller named.

    Both follow from what the task will be given: a header says which key its caller took, and is
    not believed.  Raises as `Plan.key`.
    """
    message = getattr(request, "request_dict", None) or carried_headers(request)
    place = header.place
    if plan.vary.queue and not header.key:
        place = routes.delivered(task, request.args, request.kwargs, request.delivery_info)
    headers = custom_headers(message) if plan.vary.headers else None
    return plan.key(request.args, request.kwargs, plan.vary.of(headers, place)), place
