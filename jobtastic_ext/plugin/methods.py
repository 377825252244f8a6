"""What every task gains."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from typing import Any

from celery import Celery
from celery._state import get_current_task
from celery.app.task import Task
from celery.result import AsyncResult, EagerResult

from ..caller import calls
from ..caller.options import asking_for_fallback
from ..celery_internals import is_silent
from ..errors import ConfigurationError
from ..hooks import state_of
from ..progress.reporter import URGENT, T, current
from ..progress.run_progress import NOBODY, Progress
from ..progress.track import tracked
from ..progress.workflow import SEEN, Leaf, Overview, lay_out, learn_lengths, read_states, sum_up
from ..runtime import has_step, runtime_of

__all__ = (
    "demand_step",
    "progress_of",
    "queue_of",
    "track",
    "track_here",
    "update_progress",
    "update_progress_here",
    "with_fallback",
)

logger = logging.getLogger("jobtastic_ext")

#: Tasks of apps without the step that have been told that their reports go nowhere.
_warned: set[str] = set()

STEP = 'app.steps["worker"].add(JobtasticStep)'


def demand_step(task: Task, what: str) -> None:
    """Raise `ConfigurationError` for an app without the step, where a call would mean less.

    What only shows something warns instead, once for each task (`warn_once`).
    """
    if not has_step(task._get_app()):
        raise ConfigurationError(f"{task.name} {what}: its app lacks the step; add {STEP}")


def with_fallback(task: Task, options: dict[str, Any], mode: str) -> Any:
    """Call the task's own `apply_async` with these options, and with this fallback.

    Raises `ConfigurationError` for an app without the step.
    """
    demand_step(task, "has no fallback")
    with asking_for_fallback(task, mode):
        return task.apply_async(**options)


def queue_of(
    app: Celery, task_id: str, *, task: str | None = None, queue: str | None = None
) -> dict[str, Any] | None:
    """Return ``{"ahead": n}`` for a task that waits in its queue; None if that is not known.

    `n` counts the messages of the same queue that workers will take before this one.  What workers
    have taken already, to run it or to hold it ready, is not among them.  `queue` defaults to the
    one that a task called `task` is routed to, else to the app's default.

    Known on a Redis broker for the next 50 messages, unless they are large: the ends of its lists
    are looked at twice a second at most, in the server.  No other broker tells.  When the task
    starts is not said: nobody but the workers knows how many of them take from this queue.
    """
    runtime = runtime_of(app)
    positions = None if runtime is None else runtime.positions
    return None if positions is None else positions.of(task_id, task=task, queue=queue)


def progress_of(result: Any) -> Overview:
    """Return how far the workflow behind a result is: of a group, chain, chord or single task.

    What came before in a chain (`result.parent`), and the header of a chord, are a part of it.
    Every task weighs as much as it takes: by what it shows while it runs, else by what its past
    runs took, else as much as the others on average.

    Asks the result backend once and the store at most once, however many tasks there are, where
    the backend can give many results at once (Redis and memcached can); other backends are asked
    for each task that has not ended yet.  Raises `ResultsUnavailable`.
    """
    app = result.app
    leaves: dict[str, Leaf] = {}
    seen: dict[str, Leaf] = result.__dict__.setdefault(SEEN, {})
    whole = lay_out(result, leaves, seen)
    runtime = runtime_of(app)
    read_states(
        app,
        None if runtime is None else runtime.progress,
        [leaf for leaf in leaves.values() if not leaf.ended],
    )
    if runtime is not None:
        learn_lengths(runtime.histories, leaves.values())
    seen.update(leaves)
    return sum_up(result, whole, list(leaves.values()))


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
    found: Progress | None = state_of(request).progress
    if found is not None:
        return found
    try:
        runtime = runtime_of(task.app)
        if runtime is not None:
            return runtime.reporter.open(task, request)
    except URGENT:
        raise
    except Exception:
        logger.exception("%s[%s]: its progress is not shown; it goes on", task.name, request.id)
        return None
    warn_once(task)
    return None


def warn_once(task: Task) -> None:
    if task.name not in _warned and not has_step(task.app):
        _warned.add(task.name)
        logger.warning(
            "%s: update_progress and track show nothing: its app lacks the step; add %s",
            task.name,
            STEP,
        )


def delay_or_eager(self: Task, *args: Any, **kwargs: Any) -> AsyncResult | EagerResult:
    """Do what `delay` does; if the broker does not take the message, run the task here.

    Then it returns an `EagerResult`, and the value is in the result backend as well.
    """
    return with_fallback(self, {"args": args, "kwargs": kwargs}, "eager")


def delay_or_fail(self: Task, *args: Any, **kwargs: Any) -> AsyncResult:
    """Do what `delay` does; if the broker does not take the message, return a failed result.

    Its `result` is the broker's error, and the result backend holds the failure as well.
    """
    return with_fallback(self, {"args": args, "kwargs": kwargs}, "fail")


def async_or_eager(self: Task, **options: Any) -> AsyncResult | EagerResult:
    """Do what `apply_async` does with these options, or `delay_or_eager`'s fallback."""
    return with_fallback(self, options, "eager")


def async_or_fail(self: Task, **options: Any) -> AsyncResult:
    """Do what `apply_async` does with these options, or `delay_or_fail`'s fallback."""
    return with_fallback(self, options, "fail")


def forget(self: Task, *args: Any, **kwargs: Any) -> bool:
    """Drop the claim and the cached result of the call with these arguments.

    Returns whether there was one.  A run in progress goes on, but nobody joins it any more.
    Raises `StoreUnavailable`, and `ConfigurationError` for an app without the step.
    """
    demand_step(self, "has nothing to forget")
    runtime = runtime_of(self._get_app())
    return runtime is not None and calls.forget(runtime.caller, self, args, kwargs)


#: What the patch adds to every task.
ADDED = {
    "async_or_eager": async_or_eager,
    "async_or_fail": async_or_fail,
    "delay_or_eager": delay_or_eager,
    "delay_or_fail": delay_or_fail,
    "forget": forget,
    "track": track,
    "update_progress": update_progress,
}
