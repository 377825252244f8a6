"""The one patch on `celery.app.task.Task`: `apply_async` and the helpers.  No logic."""

from __future__ import annotations

import functools
from typing import Any

from celery._state import _get_active_apps, _on_app_finalizers, connect_on_app_finalize
from celery.app.task import Task
from celery.result import AsyncResult

from ..caller import calls
from ..results.result_objects import plain_again
from ..runtime import ATTRIBUTE, close_runtime, prepare, publish, runtime_of
from ..worker.wrapping import unwrap_tasks
from . import handlers
from .methods import ADDED, demand_step

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
        if _installed and options.pop("refresh", False):
            demand_step(self, "has nothing to refresh")
        return publish(self, args, kwargs, task_id, producer, link, link_error, shadow, **options)
    options.update(
        task_id=task_id, producer=producer, link=link, link_error=link_error, shadow=shadow
    )
    return calls.apply_async(runtime.caller, publish, self, args, kwargs, options)


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
    handlers.disconnect()
    _on_app_finalizers.discard(prepare)
    for app in list(_get_active_apps()):
        plain_again(app)
        runtime = getattr(app, ATTRIBUTE, None)
        if runtime is not None:
            unwrap_tasks(runtime.deliveries)
            close_runtime(app)
    if Task.apply_async is apply_async:
        Task.apply_async = publish
    for name, function in ADDED.items():
        if Task.__dict__.get(name) is function:
            delattr(Task, name)
