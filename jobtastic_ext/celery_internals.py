"""What is private to Celery and used here, and what a request carries of ours."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

from celery.app.task import Context, Task

__all__ = (
    "CONTENT",
    "HERE",
    "RUN",
    "UNRUN",
    "custom_headers",
    "is_silent",
    "seconds_until",
    "traced",
)

#: The header of a task that runs at its caller, because the broker is down: its call key.
HERE = "jobtastic_here"

#: Where a worker's main process notes the content type of a message, which its children are not
#: told, in what they are told of it.
CONTENT = "jobtastic_content"

#: The attribute of a request that holds its run; see `runs`.
RUN = "jobtastic_run"

#: The attribute of a request whose body was left out: it waits for a run, or shares its outcome.
UNRUN = "jobtastic_unrun"

#: What Celery writes into a message's headers itself, of whatever version.
CELERYS = frozenset(
    {
        *Context.__dict__,
        *("lang", "task", "argsrepr", "kwargsrepr", "compression", "stamps", "stamped_headers"),
        *("time_limit", "soft_time_limit", "timelimit", "replaced_task_nesting", "ignore_result"),
        *("group_index", "properties", "content_type", "content_encoding"),
    }
)

#: Types that a header can have; what others set on a request to remember something has not.
PLAIN = (str, bytes, int, float, list, tuple, dict, type(None))


def custom_headers(message: Mapping[str, Any]) -> dict[str, Any]:
    """Return the headers that a caller sets, or has set: from a call's, or a request's dict.

    A mapping under the name ``headers`` holds headers as well: Celery hands it to the task as
    `request.headers`, and projects and tracers alike have put theirs there.
    """
    inner = message.get("headers")
    found = custom_headers(inner) if isinstance(inner, Mapping) else {}
    for name, value in message.items():
        if name not in CELERYS and isinstance(value, PLAIN):
            found[name] = value
    return found


def is_silent(request: Context) -> bool:
    """Whether nobody can see the run from outside: it is eager, and not in a message's place."""
    return bool(request.is_eager) and HERE not in (request.headers or {})


def traced(task: Task) -> Context:
    """Return the request that the tracer knows, of which a custom `__call__` may push a copy."""
    request = task.request
    if request.id is None:
        return request
    return next((r for r in task.request_stack.stack if r.id == request.id), request)


def seconds_until(task: Task, moment: datetime) -> float:
    """Return in how many seconds it is; a moment without a time zone is in the app's."""
    now = datetime.now(timezone.utc) if moment.tzinfo else task.app.now().replace(tzinfo=None)
    return (moment - now).total_seconds()
