"""A task's reports: which run they belong to, and what it does with them."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from billiard.exceptions import SoftTimeLimitExceeded, Terminated
from celery import states
from celery._state import _task_stack
from celery.app.task import Context, Task

from ..celery_internals import HERE, is_silent, traced
from ..policy.model import Plan
from ..runtime import Runtime
from .run_progress import NOBODY, Progress

__all__ = (
    "begin",
    "end",
    "learn",
    "start",
    "stop",
)

logger = logging.getLogger("jobtastic_ext")

T = TypeVar("T")

#: The attribute of a request that holds its `Progress`.
ATTRIBUTE = "jobtastic_progress"

#: Raised in the midst of whatever the main thread does; never to be kept from the task.
URGENT = (SoftTimeLimitExceeded, Terminated)


class Current(threading.local):
    """The run that this thread carries out.

    The one thing that is kept at module level, as Celery keeps its stack of tasks: to ask a task
    for its request takes four times as long as all the rest of a throttled report.
    """

    run: Progress = NOBODY


current = Current()


def open_run(runtime: Runtime, task: Task, request: Context) -> Progress:
    ignored = request.__dict__.get("ignore_result")
    ignored = task.ignore_result if ignored is None else ignored
    send = None if ignored else runtime.writer.sender(task, request)
    run = Progress(task, send, name=f"{task.name}[{request.id}]", urgent=URGENT)
    request.__dict__[ATTRIBUTE] = run
    if runtime.writer.atomic:
        run.watch = runtime.ticker.add
    return run


def begin(runtime: Runtime, task: Task) -> None:
    """A task is about to run in this thread."""
    request = task.request
    if is_silent(request):
        run = Progress()
        run.outer = current.run
    else:
        run = open_run(runtime, task, request)
        run.stack = _task_stack.stack
    current.run = run
    plan = runtime.plan(task)
    if plan is None or is_silent(request):
        return
    if request.is_eager or not plan.shares:  # its body is not wrapped, or called as it is
        key = (request.headers or {}).get(HERE) or ""
        start(runtime, plan, task, request, request.args or (), request.kwargs or {}, key)


def start(
    runtime: Runtime,
    plan: Plan,
    task: Task,
    request: Context,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    key: str,
) -> None:
    """The body of a policy task is entered: show 0 percent, and the time that past runs took."""
    try:
        show(runtime, plan, task, request, args, kwargs, key)
    except URGENT:
        raise
    except Exception:
        logger.exception("%s[%s]: its start is not shown; it goes on", task.name, request.id)


def show(
    runtime: Runtime,
    plan: Plan,
    task: Task,
    request: Context,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    key: str,
) -> None:
    run: Progress | None = request.__dict__.get(ATTRIBUTE)
    if run is None:
        run = open_run(runtime, task, request)
    run.learns = runtime.histories.names(plan, task.name, args, kwargs)
    if run.closed:
        return
    learned = runtime.histories.load(run.learns)
    run.history, run.reports = learned.history, learned.reports
    if key:
        run.extras["key"] = key
    run.watch = runtime.ticker.add  # the end of the body is seen, so nothing is written after it
    run.begin()


def stop(request: Context) -> None:
    """The body is over: from now on Celery writes what became of it."""
    run: Progress | None = request.__dict__.get(ATTRIBUTE)
    if run is not None:
        run.close()


def learn(runtime: Runtime, task: Task) -> None:
    """The run has succeeded, and its result is stored: remember what it took."""
    run: Progress | None = traced(task).__dict__.get(ATTRIBUTE)
    if run is not None and run.learns:
        run.close()
        runtime.histories.learn(run.learns, run.samples, run.ended or 0.0)


def end(runtime: Runtime, task: Task, state: str | None, retval: Any) -> None:
    """The task is over, however it ended."""
    run = current.run
    current.run = run.outer or NOBODY
    if run.task is not task:
        return
    run.close()
    runtime.ticker.discard(run)
    if state and run.send is not None and state in states.READY_STATES:
        run.send.settle(retval, state)
