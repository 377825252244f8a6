"""Wraps the body of each policy task, and gives it back.

A handler of `task_prerun` cannot veto a run (`Signal.send` swallows what it raises), so the body
of each policy task is wrapped on its instance before the tracer is built.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from celery._state import _task_stack
from celery.app.task import Task
from celery.exceptions import Ignore

from ..celery_internals import traced
from ..errors import ArgumentUnknown
from ..hooks import state_of
from ..policy.model import Plan
from .delivery import Deliveries, Message

#: What is replaced on the instance of a policy task.  Celery's tracer would store STARTED before
#: the body is called, for a message, too, that is to wait: it is stored when the body begins.
REPLACED = ("run", "track_started")

#: Celery's tasks that call another task's body for each item of a list.
MAPS = ("celery.map", "celery.starmap")


def wrap_tasks(deliveries: Deliveries) -> None:
    """Wrap the body of every policy task of the app; those that are wrapped stay as they are."""
    for task in list(deliveries.app._tasks.values()):
        plan = deliveries.plan(task)
        if plan is None or not plan.shares or task.name in deliveries.wrapped:
            continue
        deliveries.wrapped[task.name] = {name: task.__dict__.get(name) for name in REPLACED}
        task.run = wrap(deliveries, plan, task, task.run)
        task.track_started = False


def unwrap_tasks(deliveries: Deliveries) -> None:
    """Give every task its own body back."""
    for task_name, own in deliveries.wrapped.items():
        task = deliveries.app._tasks.get(task_name)
        if task is None:
            continue
        for name, value in own.items():
            if value is None:
                task.__dict__.pop(name, None)
            else:
                setattr(task, name, value)
    deliveries.wrapped.clear()


def wrap(
    deliveries: Deliveries, plan: Plan, task: Task, body: Callable[..., Any]
) -> Callable[..., Any]:
    tracks = task.track_started

    @functools.wraps(body)
    def run(*args: Any, **kwargs: Any) -> Any:
        request = traced(task)
        if request.called_directly or request.is_eager or not request.id:
            return run_item(plan, body, args, kwargs)
        state = state_of(request)
        if state.body != "not reached":
            return body(*args, **kwargs)  # the body calls itself
        state.body = "reached"
        try:
            return Message(deliveries, plan, task, request, args, kwargs, tracks).run(body)
        except Ignore as ignored:
            if state_of(request).body != "left out":
                raise
            # Celery copies every frame of it, and sends them to the main process.
            raise ignored.with_traceback(None) from None

    return run


def run_item(
    plan: Plan, body: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """Run the body here, as a direct call does; once for identical items of a map or starmap."""
    callers = _task_stack.stack
    caller = callers[-2] if len(callers) > 1 else None
    shares = (plan.herd or plan.fresh) and not plan.exclusive and not plan.policy.shadow
    if caller is None or caller.name not in MAPS or not shares:
        return body(*args, **kwargs)
    state = state_of(caller.request)
    items = state.items = {} if state.items is None else state.items
    try:
        key = plan.key(args, kwargs)
    except (ArgumentUnknown, TypeError):
        return body(*args, **kwargs)
    if key not in items:
        items[key] = body(*args, **kwargs)
    return items[key]
