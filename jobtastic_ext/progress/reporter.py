"""A task's reports: which run they belong to, and what it does with them."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any, TypeVar

from billiard.exceptions import SoftTimeLimitExceeded, Terminated
from celery import states
from celery._state import _task_stack
from celery.app.task import Context, Task

from ..celery_internals import HERE, is_silent, traced
from ..policy.model import Plan
from ..results.state_writer import Writer
from .histories import Histories
from .run_progress import NOBODY, Progress
from .ticker import Ticker

__all__ = (
    "Reporter",
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


def stop(request: Context) -> None:
    """The body is over: from now on Celery writes what became of it."""
    run: Progress | None = request.__dict__.get(ATTRIBUTE)
    if run is not None:
        run.close()


class Reporter:
    """Shows how far the runs of this worker are, and learns from those that succeed."""

    def __init__(
        self,
        plan: Callable[[Task], Plan | None],
        histories: Histories,
        writer: Callable[[], Writer],
        ticker: Ticker,
    ) -> None:
        self._plan, self._histories = plan, histories
        self._open_writer, self._ticker = writer, ticker

    @cached_property
    def writer(self) -> Writer:
        """What writes states to the result backend, made when the first run reports."""
        return self._open_writer()

    def close(self) -> None:
        """Close what writes, if anything has been written."""
        writer: Writer | None = self.__dict__.get("writer")
        if writer is not None:
            writer.close()

    @contextmanager
    def around_body(
        self,
        plan: Plan,
        task: Task,
        request: Context,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        key: str,
    ) -> Iterator[None]:
        """Show that the body of a policy task runs, until it is over."""
        self.start(plan, task, request, args, kwargs, key)
        try:
            yield
        finally:
            stop(request)

    def open(self, task: Task, request: Context) -> Progress:
        ignored = request.__dict__.get("ignore_result")
        ignored = task.ignore_result if ignored is None else ignored
        send = None if ignored else self.writer.sender(task, request)
        run = Progress(task, send, name=f"{task.name}[{request.id}]", urgent=URGENT)
        request.__dict__[ATTRIBUTE] = run
        if self.writer.atomic:
            run.watch = self._ticker.add
        return run

    def begin(self, task: Task) -> None:
        """A task is about to run in this thread."""
        request = task.request
        if is_silent(request):
            run = Progress()
            run.outer = current.run
        else:
            run = self.open(task, request)
            run.stack = _task_stack.stack
        current.run = run
        plan = self._plan(task)
        if plan is None or is_silent(request):
            return
        if request.is_eager or not plan.shares:  # its body is not wrapped, or called as it is
            key = (request.headers or {}).get(HERE) or ""
            self.start(plan, task, request, request.args or (), request.kwargs or {}, key)

    def start(
        self,
        plan: Plan,
        task: Task,
        request: Context,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        key: str,
    ) -> None:
        """The body is entered: show 0 percent, and the time that past runs took."""
        try:
            self._show(plan, task, request, args, kwargs, key)
        except URGENT:
            raise
        except Exception:
            logger.exception("%s[%s]: its start is not shown; it goes on", task.name, request.id)

    def _show(
        self,
        plan: Plan,
        task: Task,
        request: Context,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        key: str,
    ) -> None:
        run: Progress | None = request.__dict__.get(ATTRIBUTE)
        if run is None:
            run = self.open(task, request)
        run.learns = self._histories.names(plan, task.name, args, kwargs)
        if run.closed:
            return
        learned = self._histories.load(run.learns)
        run.history, run.reports = learned.history, learned.reports
        if key:
            run.extras["key"] = key
        run.watch = self._ticker.add  # the end of the body is seen, so nothing is written after it
        run.begin()

    def learn(self, task: Task) -> None:
        """The run has succeeded, and its result is stored: remember what it took."""
        run: Progress | None = traced(task).__dict__.get(ATTRIBUTE)
        if run is not None and run.learns:
            run.close()
            self._histories.learn(run.learns, run.samples, run.ended or 0.0)

    def end(self, task: Task, state: str | None, retval: Any) -> None:
        """The task is over, however it ended."""
        run = current.run
        current.run = run.outer or NOBODY
        if run.task is not task:
            return
        run.close()
        self._ticker.discard(run)
        if state and run.send is not None and state in states.READY_STATES:
            run.send.settle(retval, state)
