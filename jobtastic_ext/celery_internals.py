"""The register of what is private to others and used here, and how to read a request."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime, time, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

from celery.app.task import Context, Task
from kombu.utils import json

#: Every private name of Celery, kombu, billiard and redis-py that is used anywhere in the package:
#: where it is defined, and why nothing public does.  A test looks for each in what is installed.
PRIVATE = {
    "celery._state:_task_stack": "tasks that run in this thread; public is the innermost alone",
    "celery._state:_get_active_apps": "apps to be put back by `uninstall`",
    "celery._state:_on_app_finalizers": "to be told of an app no longer; there is no public way",
    "celery._state:connect_on_app_finalize": "to be told when an app has all of its tasks",
    "celery._state:get_current_task": "`celery.current_task` is a proxy, ten times as slow",
    "celery._state:_tls": "which app is current, without making the default one",
    "celery.app.base:_get_backend": "a backend object of our own, with bounds of its own",
    "celery.app.base:_pool": "the app's connections, if it has any; `app.pool` makes them",
    "celery.app.base:_tasks": "tasks that are registered; `app.tasks` finalizes the app",
    "celery.app.amqp:_producer_pool": "producers that a forked child has inherited",
    "celery.app.task:_backend": "a task's own result backend; `task.backend` opens the app's",
    "celery.app.task:_get_app": "a task's app, also before it is bound",
    "celery.backends.base:_get_result_meta": "the bytes of a state as Celery would store them",
    "celery.backends.base:_get_task_meta_for": "one question, without retries",
    "celery.backends.redis:_transport_options": "bounds on what Sentinel is asked",
    "celery.backends.database.session:_engines": "SQLAlchemy's connections, to be closed",
    "celery.result:_cache": "whether an outcome is known already; `result.state` asks the backend",
    "celery.result:_set_cache": "an outcome that was read is handed to the result",
    "celery.result:_maybe_set_cache": "where Celery takes in an outcome",
    "kombu.transport.virtual.base:_lookup": "which queue a message belongs to",
    "kombu.transport.virtual.base:_inplace_augment_message": "a message as it lies in its queue",
    "kombu.transport.virtual.base:_get_message_priority": "by which list of its queue it is told",
    "kombu.transport.redis:_q_for_pri": "the name of that list",
    "billiard.process:_target": "billiard's `Worker` of this child, to have it replaced",
    "redis.connection:_sock": "a socket to wait on, and whether one is open",
}

#: The same, of versions to come or gone: nothing is missing without them.
OPTIONAL = {
    "celery.app.task:_dump_pydantic_arguments": "since 5.7: arguments as the message holds them",
    "wrapt:_self_wrapper": "the decorator in an object that wrapt makes",
}

#: The header of a task that runs at its caller, because the broker is down: its call key.
HERE = "jobtastic_here"

#: Where a worker's main process notes the content type of a message, which its children are not
#: told, among its headers.  A text, since the broker gets these headers back with a message that is
#: rejected.
CONTENT = "jobtastic_content"

#: What Celery writes into a message's headers itself, of whatever version.
CELERYS = frozenset(
    {
        *Context.__dict__,
        *("lang", "task", "argsrepr", "kwargsrepr", "compression", "stamps", "stamped_headers"),
        *("time_limit", "soft_time_limit", "timelimit", "replaced_task_nesting", "ignore_result"),
        *("group_index", "properties", "content_type", "content_encoding"),
    }
)

#: What the names of our own header and attributes begin with.
OURS = "jobtastic", "jobtastic_"

#: Types of values that every broker brings as they were.
SCALAR = (str, int, float, type(None))

#: Types that a received header can have; much of what others set on a request has not.
PLAIN = (*SCALAR, bytes, list, tuple, dict, date, time, Decimal, UUID)


def custom_headers(message: Mapping[str, Any]) -> dict[str, Any]:
    """Return the headers that a caller sets, or has set: from a call's, or a request's dict.

    A mapping under the name ``headers`` holds headers as well: Celery hands it to the task as
    `request.headers`, and projects and tracers alike have put theirs there.
    """
    inner = message.get("headers")
    found = custom_headers(inner) if isinstance(inner, Mapping) else {}
    for name, value in message.items():
        if name not in CELERYS and name != OURS[0]:
            found[str(name)] = value if isinstance(value, SCALAR) else as_sent(value)
    return found


def as_sent(value: Any) -> Any:
    """Return what a worker gets of a header's value, where brokers take it at all."""
    try:
        return json.loads(json.dumps(value))
    except Exception:  # noqa: BLE001 - a broker in memory takes anything
        return value


def carried_headers(request: Context) -> dict[str, Any]:
    """Return the headers of a request's message, as they have to be sent to be the same again.

    Celery gives the task those of a mapping called ``headers`` alone where there is one, as
    Sentry's integration sends it; the others are attributes of the request then, and among what
    others have set on it.
    """
    ours, attributes = OURS
    inner = request.headers or {}
    found = {
        name: value
        for name, value in request.__dict__.items()
        if name not in CELERYS and isinstance(value, PLAIN) and not str(name).startswith(attributes)
    }
    if not isinstance(inner, Mapping):
        return found
    if (ours in inner) if ours in found else found.keys() <= inner.keys():
        return dict(inner)
    return {**found, "headers": inner} if inner else {}


def ignores_result(task: Task, request: Context) -> bool:
    """Whether the outcome of this very request is not stored."""
    asked = request.__dict__.get("ignore_result")
    return bool(task.ignore_result if asked is None else asked)


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


def wait_of(task: Task, when: Any) -> float:
    """Return in how many seconds a retry is due."""
    return seconds_until(task, when) if isinstance(when, datetime) else float(when or 0)
