"""What the options of a call mean: its fallback, its expiry, and whose retry it is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime
from typing import Any

from celery.app.task import Task
from celery.utils.time import maybe_iso8601
from msgspec.structs import asdict

from ..celery_internals import seconds_until, traced
from ..claims.header import HEADER, Header
from ..hooks import state_of

#: The name of the task that is being called with a fallback, and the fallback.
_fallback: ContextVar[tuple[str, str] | None] = ContextVar("jobtastic_fallback", default=None)


@contextmanager
def asking_for_fallback(task: Task, mode: str) -> Iterator[None]:
    """Have a call of this task fall back so: what `delay_or_…` asks for.

    Not as an option: a base class may have an `apply_async` of its own, which passes them on.
    """
    token = _fallback.set((task.name, mode))
    try:
        yield
    finally:
        _fallback.reset(token)


def take_fallback(task: Task) -> str | None:
    """Return what the caller asked for, for one call of this task."""
    found = _fallback.get()
    if found is None or found[0] != task.name:
        return None
    _fallback.set(None)
    return found[1]


def retry_options(task: Task, args: Any, kwargs: Any, options: dict[str, Any]) -> dict[str, Any]:
    """A retry keeps its claim, unless it changes its arguments: then it is another call.

    It names the run that sends it, so that it may go on before that run has let go.
    """
    request = traced(task)
    if request.id is None or request.id != options.get("task_id"):
        return options
    run = state_of(request).claim
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


def countdown_of(task: Task, options: dict[str, Any]) -> float:
    """Return in how many seconds the caller wants the task to run; 0: as soon as it can."""
    countdown, eta = options.get("countdown"), options.get("eta")
    if countdown:
        return max(float(countdown), 0.0)
    if isinstance(eta, str):
        eta = maybe_iso8601(eta)
    return max(seconds_until(task, eta), 0.0) if isinstance(eta, datetime) else 0.0


def expires_in(task: Task, options: dict[str, Any]) -> float | None:
    """Return in how many seconds the message expires, or None."""
    expires = options["expires"] if "expires" in options else getattr(task, "expires", None)
    if expires is None or isinstance(expires, int | float):
        return expires
    if isinstance(expires, str):
        expires = maybe_iso8601(expires)
    return seconds_until(task, expires) if isinstance(expires, datetime) else None
