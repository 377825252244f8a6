"""The one patch on `celery.app.task.Task`: `apply_async` and the helpers.  No logic."""

from __future__ import annotations

import functools
from typing import Any

from celery._state import _get_active_apps, _on_app_finalizers, connect_on_app_finalize
from celery.app.task import Task
from celery.result import AsyncResult, EagerResult

from . import calls, reporting, wiring
from .results.result_objects import plain_again
from .runs import unwrap_tasks
from .runtime import ATTRIBUTE, close_runtime, prepare, publish, runtime_of

__all__ = ("install", "uninstall")

#: Whether the patch is in force.  Somebody's wrapper may still hold `apply_async` after it is not.
_installed = False


@functools.wraps(publish)
def apply_async(
    self: Task,
    args: Any = None,
    kwargs: Any = None,
    task_id: str | None = None,
    producer: Any = None,
    link: Any = None,
    link_error: Any = None,
    shadow: str | None = None,
    **options: Any,
) -> AsyncResult:
    runtime = runtime_of(self._get_app()) if _installed else None
    if runtime is None:
        return publish(self, args, kwargs, task_id, producer, link, link_error, shadow, **options)
    options.update(
        task_id=task_id, producer=producer, link=link, link_error=link_error, shadow=shadow
    )
    return calls.apply_async(runtime, publish, self, args, kwargs, options)


def delay_or_eager(self: Task, *args: Any, **kwargs: Any) -> AsyncResult | EagerResult:
    """Do what `delay` does; if the broker does not take the message, run the task here.

    Then it returns an `EagerResult`, and the value is in the result backend as well.
    """
    return calls.with_fallback(self, {"args": args, "kwargs": kwargs}, "eager")


def delay_or_fail(self: Task, *args: Any, **kwargs: Any) -> AsyncResult:
    """Do what `delay` does; if the broker does not take the message, return a failed result.

    Its `result` is the broker's error, and the result backend holds the failure as well.
    """
    return calls.with_fallback(self, {"args": args, "kwargs": kwargs}, "fail")


def async_or_eager(self: Task, **options: Any) -> AsyncResult | EagerResult:
    """Do what `apply_async` does with these options, or `delay_or_eager`'s fallback."""
    return calls.with_fallback(self, options, "eager")


def async_or_fail(self: Task, **options: Any) -> AsyncResult:
    """Do what `apply_async` does with these options, or `delay_or_fail`'s fallback."""
    return calls.with_fallback(self, options, "fail")


def forget(self: Task, *args: Any, **kwargs: Any) -> bool:
    """Drop the claim and the cached result of the call with these arguments.

    Returns whether there was one.  A run in progress goes on, but nobody joins it any more.
    Raises `StoreUnavailable`.
    """
    runtime = runtime_of(self._get_app())
    return runtime is not None and calls.forget(runtime, self, args, kwargs)


#: What the patch adds to every task.
ADDED = {
    "async_or_eager": async_or_eager,
    "async_or_fail": async_or_fail,
    "delay_or_eager": delay_or_eager,
    "delay_or_fail": delay_or_fail,
    "forget": forget,
    "track": reporting.track,
    "update_progress": reporting.update_progress,
}


def install() -> None:
    """Patch `Task`; doing it twice is harmless, and leaves alone what others put around it."""
    global _installed
    if _installed:
        return
    _installed = True
    Task.apply_async = apply_async
    connect_on_app_finalize(prepare)
    for name, function in ADDED.items():
        setattr(Task, name, function)


def uninstall() -> None:
    """Put `Task`, the bodies of wrapped tasks, signals and every app back as they were."""
    global _installed
    _installed = False
    wiring.disconnect()
    _on_app_finalizers.discard(prepare)
    for app in list(_get_active_apps()):
        plain_again(app)
        runtime = getattr(app, ATTRIBUTE, None)
        if runtime is not None:
            unwrap_tasks(runtime)
            close_runtime(app)
    if Task.apply_async is apply_async:
        Task.apply_async = publish
    for name, function in ADDED.items():
        if Task.__dict__.get(name) is function:
            delattr(Task, name)
