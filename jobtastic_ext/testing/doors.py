"""The ways by which a call leaves a process, watched while the fixture is in use."""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from celery import Celery, chord
from celery.app.control import Control
from celery.app.task import Task

from ..errors import ConfigurationError

__all__ = ("watch_doors",)

#: What sends a message or changes the store.  A chord first tells the backend how large it is.
DOORS: tuple[tuple[type, str], ...] = (
    (Task, "apply_async"),
    (Task, "forget"),
    (Celery, "send_task"),
    (Control, "broadcast"),
    (chord, "run"),
)

#: Told of a result, and of the task, arguments and options of its call.
Seen = Callable[[Any, Task, tuple[Any, ...], dict[str, Any]], None]


def watch_doors(is_ours: Callable[[Celery], bool], seen: Seen, stack: ExitStack) -> None:
    """Until the stack is closed, have calls of other apps raise `ConfigurationError`.

    Those of an app that is always eager pass: nothing is sent.  `seen` is told of each call of a
    task of ours.
    """
    for holder, name in DOORS:
        before = getattr(holder, name)
        guarded = guard(before, name, is_ours, seen)
        setattr(holder, name, guarded)
        stack.callback(put_back, holder, name, guarded, before)


def guard(
    before: Callable[..., Any], name: str, is_ours: Callable[[Celery], bool], seen: Seen
) -> Callable[..., Any]:
    @functools.wraps(before)
    def guarded(self: Any, *args: Any, **options: Any) -> Any:
        app = app_of(self, options)
        if is_ours(app):
            result = before(self, *args, **options)
            if name == "apply_async":
                seen(result, self, args, options)
            return result
        if isinstance(self, Task) and app.conf.task_always_eager:
            return before(self, *args, **options)
        what = self.name if isinstance(self, Task) else f"{type(self).__name__}.{name}"
        raise ConfigurationError(
            f"{what}: the app `{app.main}` is under no policy in this test, and this would go to "
            "its servers; call jobtastic.policy(app, {…}) first"
        )

    return guarded


def app_of(caller: Any, options: dict[str, Any]) -> Celery:
    if isinstance(caller, Celery):
        return caller
    if isinstance(caller, Control):
        return caller.app
    return options.get("app") or caller._get_app()


def put_back(holder: type, name: str, ours: object, before: object) -> None:
    """Undo what was done to a class, unless somebody has put something else there since."""
    if getattr(holder, name) is ours:
        setattr(holder, name, before)
