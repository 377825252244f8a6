"""A task's reports: which run they belong to, and what it does with them."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from billiard.exceptions import SoftTimeLimitExceeded, Terminated
from celery import states
from celery._state import _task_stack, get_current_task
from celery.app.task import Context, Task

from .features.progress import NOBODY, Progress
from .features.tracking import tracked
from .messages import HERE, is_silent, traced
from .plans import Plan
from .results.redis_state_writer import RedisSender
from .results.state_writer import BackendSender
from .runtime import Runtime, runtime_of

__all__ = (
    "begin",
    "end",
    "learn",
    "start",
    "stop",
    "track",
    "track_here",
    "update_progress",
    "update_progress_here",
)

logger = logging.getLogger("jobtastic_ext")

T = TypeVar("T")

#: The attribute of a request that holds its `Progress`.
ATTRIBUTE = "jobtastic_progress"

#: Raised in the midst of whatever the main thread does; never to be kept from the task.
URGENT = (SoftTimeLimitExceeded, Terminated)

#: Tasks of apps without the step that have been told that their reports go nowhere.
_told: set[str] = set()


class Current(threading.local):
    """The run that this thread carries out.

    The one thing that is kept at module level, as Celery keeps its stack of tasks: to ask a task
    for its request takes four times as long as all the rest of a throttled report.
    """

    run: Progress = NOBODY


current = Current()


def update_progress(
    self: Task,
    completed_count: float,
    total_count: float | None,
    update_frequency: float = 1,
    *,
    message: str | None = None,
) -> None:
    """Record that `completed_count` of `total_count` is done; None stands for an unknown total.

    Written at most about four times a second, and only when `update_frequency` more are done since
    the last count that was; the last one (`completed_count` reaches `total_count`) always is.  The
    state becomes ``PROGRESS`` with ``{"progress_percent": 0..100, "time_remaining": seconds}``, the
    time being -1 while nothing is known; docs/progress.md has the rest.  Nothing is written for a
    direct or eager call or for an ignored result.  Never raises because of what it is given, or of
    a backend that is down.
    """
    run = current.run
    try:
        if run.task is self and completed_count < total_count and message is None:  # type: ignore[operator]
            step = completed_count - run.counted
            if step >= 0:
                if step < update_frequency:
                    return
                if run.clock() < run.due:
                    run.counted = completed_count
                    run.latest = (completed_count, total_count, None)
                    return
    except URGENT:
        raise
    except Exception:  # noqa: BLE001, S110 - of whatever was given: looked at, and told of, below
        pass
    found = run_of(self)
    if found is not None:
        found.update(completed_count, total_count, update_frequency, message)


def track(
    self: Task,
    iterable: Iterable[T],
    total: float | None = None,
    update_frequency: int | None = None,
    *,
    message: str | None = None,
) -> Iterator[T]:
    """Yield the items of `iterable`, and show how many are done: `for x in self.track(items):`.

    `total` is how many there are; by default what `len()` says, and unknown where it says nothing.
    Written as `update_progress` does, by default by time alone.  Loops may be nested: the inner one
    shows how far the item of the outer one is.
    """
    run = run_of(self)
    return tracked(run or NOBODY, iterable, total, update_frequency, message)


def update_progress_here(
    completed_count: float,
    total_count: float | None,
    update_frequency: float = 1,
    *,
    message: str | None = None,
) -> None:
    """Do what `Task.update_progress` does, for the task that runs now; nothing outside of one."""
    run = current.run
    stack = run.stack
    task = run.task if stack and stack[-1] is run.task else get_current_task()
    if task is not None:
        update_progress(task, completed_count, total_count, update_frequency, message=message)


def track_here(
    iterable: Iterable[T],
    total: float | None = None,
    update_frequency: int | None = None,
    *,
    message: str | None = None,
) -> Iterator[T]:
    """Do what `Task.track` does, for the task that runs now; outside of one, yield the items."""
    task = get_current_task()
    if task is None:
        return tracked(NOBODY, iterable, None, None, None)
    return track(task, iterable, total, update_frequency, message=message)


def run_of(task: Task) -> Progress | None:
    """Return the run that reports of this task belong to, in this thread; None if there is none."""
    run = current.run
    if run.task is task:
        return run
    request = task.request
    if request.called_directly or is_silent(request) or not request.id:
        return None
    found: Progress | None = request.__dict__.get(ATTRIBUTE)
    if found is not None:
        return found
    try:
        runtime = runtime_of(task.app)
        if runtime is not None:
            return open_run(runtime, task, request)
    except URGENT:
        raise
    except Exception:
        logger.exception("%s[%s]: its progress is not shown; it goes on", task.name, request.id)
        return None
    tell(task)
    return None


def tell(task: Task) -> None:
    if task.name not in _told:
        _told.add(task.name)
        logger.warning(
            "%s: update_progress and track show nothing: its app has no JobtasticStep; add "
            'app.steps["worker"].add(JobtasticStep)',
            task.name,
        )


def open_run(runtime: Runtime, task: Task, request: Context) -> Progress:
    ignored = request.__dict__.get("ignore_result")
    ignored = task.ignore_result if ignored is None else ignored
    send = None if ignored else runtime.writer.sender(task, request)
    run = Progress(task, send, name=f"{task.name}[{request.id}]", urgent=URGENT)
    request.__dict__[ATTRIBUTE] = run
    if runtime.writer.atomic:
        run.watch = runtime.ticker.add
    return run


# The course of a run


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
    if state and isinstance(run.send, BackendSender | RedisSender) and state in states.READY_STATES:
        run.send.settle(retval, state)
