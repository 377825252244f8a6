"""What a message says of its call, and how a request tells which run it is."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

from celery.app.task import Context, Task
from celery.utils.time import maybe_iso8601
from msgspec import Struct, ValidationError, convert
from msgspec.structs import asdict

from .plans import Plan
from .routing import Routes

__all__ = (
    "CONTENT",
    "HEADER",
    "HERE",
    "RUN",
    "UNRUN",
    "Header",
    "custom_headers",
    "expires_in",
    "foreign_key",
    "is_silent",
    "key_of",
    "plain_arguments",
    "read_header",
    "retry_options",
    "seconds_until",
    "traced",
)

#: The message header that carries a call's key and generation.
HEADER = "jobtastic"

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


class Header(Struct, frozen=True, kw_only=True):
    """What a message carries in `HEADER`."""

    #: The message's own id: a header handed on to another message is not meant for that one.
    id: str = ""
    key: str = ""
    gen: str = ""
    #: Where its caller sent it by name: exchange and routing key, or nothing.
    place: tuple[str, ...] = ()
    #: How often the message was put back to wait for another run.
    looks: int = 0
    #: Store time of the call.
    since: int = 0
    #: The call asked for a new run.
    refresh: bool = False
    #: A copy that was sent for the callers of a dead run.
    bare: bool = False
    #: A retry: the token of the run that sent it.
    after: str = ""
    #: It waits for a run of its own id.
    copy: bool = False
    #: It holds no claim, and its sender has a fallback: its arrival is remembered.
    guarded: bool = False


def read_header(raw: Any, plan: Plan, task_id: str) -> Header:
    """Return the header of a message; an empty one for a foreign or damaged header."""
    try:
        header = convert(raw, Header)
    except ValidationError:
        return Header()
    own = header.id == task_id and header.key.startswith(plan.key_head)
    return header if own else Header()


def foreign_key(raw: Any, prefix: str, task_id: str) -> str:
    """Return the key in a message's header if it was written under another namespace."""
    key = raw.get("key") if isinstance(raw, Mapping) and raw.get("id") == task_id else None
    return "" if not isinstance(key, str) or key.startswith(f"{prefix}:") else key


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


def key_of(
    plan: Plan, routes: Routes, task: Task, header: Header, request: Any
) -> tuple[str, tuple[str, ...]]:
    """Return the key of a message, and the place that its caller named.

    Both follow from what the task will be given: a header says which key its caller took, and is
    not believed.  Raises as `Plan.key`.
    """
    message = getattr(request, "request_dict", None) or request.__dict__
    place = header.place
    if plan.vary.queue and not header.key:
        place = routes.delivered(task, request.args, request.kwargs, request.delivery_info)
    headers = custom_headers(message) if plan.vary.headers else None
    return plan.key(request.args, request.kwargs, plan.vary.of(headers, place)), place


def is_silent(request: Context) -> bool:
    """Whether nobody can see the run from outside: it is eager, and not in a message's place."""
    return bool(request.is_eager) and HERE not in (request.headers or {})


def traced(task: Task) -> Context:
    """Return the request that the tracer knows, of which a custom `__call__` may push a copy."""
    request = task.request
    if request.id is None:
        return request
    return next((r for r in task.request_stack.stack if r.id == request.id), request)


def retry_options(task: Task, args: Any, kwargs: Any, options: dict[str, Any]) -> dict[str, Any]:
    """A retry keeps its claim, unless it changes its arguments: then it is another call.

    It names the run that sends it, so that it may go on before that run has let go.
    """
    request = traced(task)
    if request.id is None or request.id != options.get("task_id"):
        return options
    run = getattr(request, RUN, None)
    if run is None:
        return options
    headers = {k: v for k, v in (options.get("headers") or {}).items() if k != HEADER}
    if are_same(list(args or ()), list(request.args or ())) and are_same(kwargs, request.kwargs):
        begun = run.begun
        header = Header(
            id=request.id,
            key=run.key,
            gen=run.gen,
            place=run.place,
            since=begun.since,
            refresh=begun.refresh,
            bare=begun.bare,
            after=begun.run,
        )
        headers[HEADER] = asdict(header)
    else:
        run.departed = True
    return {**options, "headers": headers}


def are_same(ones: Any, others: Any) -> bool:
    """Whether two lists or two mappings of arguments are equal, as far as their values can tell."""
    try:
        return bool((ones or None) == (others or None))
    except Exception:  # noqa: BLE001 - NumPy's arrays are neither equal nor unequal
        return False


def plain_arguments(task: Task, args: Any, kwargs: Any, options: dict[str, Any]) -> tuple[Any, Any]:
    """Return the arguments as the message will hold them: Celery 5.7 dumps pydantic models."""
    dump = getattr(task, "_dump_pydantic_arguments", None)
    if dump is None or options.get("serializer") == "pickle":
        return args, kwargs
    dumped: tuple[Any, Any] = dump(args, kwargs)
    return dumped


def expires_in(task: Task, options: dict[str, Any]) -> float | None:
    """Return in how many seconds the message expires, or None."""
    expires = options["expires"] if "expires" in options else getattr(task, "expires", None)
    if expires is None or isinstance(expires, int | float):
        return expires
    if isinstance(expires, str):
        expires = maybe_iso8601(expires)
    return seconds_until(task, expires) if isinstance(expires, datetime) else None


def seconds_until(task: Task, moment: datetime) -> float:
    """Return in how many seconds it is; a moment without a time zone is in the app's."""
    now = datetime.now(timezone.utc) if moment.tzinfo else task.app.now().replace(tzinfo=None)
    return (moment - now).total_seconds()
