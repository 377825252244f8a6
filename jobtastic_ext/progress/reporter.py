"""A task's reports: which run they belong to, and what it does with them."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any, TypeVar

from billiard.exceptions import SoftTimeLimitExceeded, Terminated
from celery import states
from celery._state import _task_stack
from celery.app.task import Context, Task
from celery.exceptions import Retry

from ..celery_internals import HERE, ignores_result, is_silent, traced, wait_of
from ..hooks import Entered, RunHooks, state_of
from ..policy.model import Plan
from ..results.state_writer import Writer
from .histories import Histories
from .retries import Retries
from .run_progress import NOBODY, Progress
from .ticker import Ticker

logger = logging.getLogger("jobtastic_ext")

T = TypeVar("T")

#: Raised in the midst of whatever the main thread does; never to be kept from the task.
URGENT = (SoftTimeLimitExceeded, Terminated)


class Current(threading.local):
    """The run that this thread carries out.

    The one thing that is kept at module level, as Celery keeps its stack of tasks: to ask a task
    for its request takes four times as long as all the rest of a throttled report.
    """

    run: Progress = NOBODY


current = Current()


class Reporter(RunHooks):
    """Shows how far the runs of this worker are, and learns from those that succeed."""

    def __init__(
        self,
        plan: Callable[[Task], Plan | None],
        histories: Histories,
        retries: Retries,
        writer: Callable[[], Writer],
        ticker: Callable[[], Ticker],
    ) -> None:
        self._plan, self._histories, self._retries = plan, histories, retries
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

    def open(self, task: Task, request: Context) -> Progress:
        """Return what shows how far the run of a request is, made anew."""
        send = None if ignores_result(task, request) else self.writer.sender(task, request)
        run = Progress(task, send, name=f"{task.name}[{request.id}]", urgent=URGENT)
        # A page that has seen it run can tell how long it took: Celery keeps when it ended.
        run.extras["begun"] = round(time.time(), 2)
        if request.retries:
            run.extras["attempt"] = request.retries + 1
        state_of(request).progress = run
        if self.writer.atomic:
            run.watch = self._ticker().add
        return run

    def on_prerun(self, task: Task) -> None:
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
            self._start(Entered(task, request, request.args or (), request.kwargs or {}, key))

    @contextmanager
    def around_body(self, entered: Entered) -> Iterator[None]:
        """Show that the body of a policy task runs, until it is over."""
        self._start(entered)
        try:
            yield
        except Retry as retry:
            self._note(entered, retry)
            raise
        finally:  # from now on Celery writes what became of it
            run: Progress | None = state_of(entered.request).progress
            if run is not None:
                run.close()

    def _note(self, entered: Entered, retry: Retry) -> None:
        """Keep when it is tried again, for pages, before they see that it is."""
        task, request = entered.task, entered.request
        try:
            if not ignores_result(task, request):
                attempt = (request.retries or 0) + 1
                self._retries.note(request.id, attempt, wait_of(task, retry.when))
        except URGENT:
            raise
        except Exception:
            logger.exception("%s[%s]: no page is told when it is retried", task.name, request.id)

    def _start(self, entered: Entered) -> None:
        """The body is entered: show 0 percent, and the time that past runs took."""
        try:
            self._show(entered)
        except URGENT:
            raise
        except Exception:
            name, task_id = entered.task.name, entered.request.id
            logger.exception("%s[%s]: its start is not shown; it goes on", name, task_id)

    def _show(self, entered: Entered) -> None:
        task, plan = entered.task, self._plan(entered.task)
        run: Progress = state_of(entered.request).progress or self.open(task, entered.request)
        assert plan is not None
        run.learns = self._histories.names(plan, task.name, entered.args, entered.kwargs)
        if run.closed:
            return
        learned = self._histories.load(run.learns)
        run.history, run.reports = learned.history, learned.reports
        if entered.key:
            run.extras["key"] = entered.key
        # The end of the body is seen, so nothing is written after it.
        run.watch = self._ticker().add
        run.begin()

    def on_success(self, task: Task) -> None:
        """Remember what the run took."""
        run: Progress | None = state_of(traced(task)).progress
        if run is not None and run.learns:
            run.close()
            self._histories.learn(run.learns, run.samples, run.ended or 0.0)

    def on_postrun(
        self, task: Task, state: str | None, retval: Any, args: Any, kwargs: Any
    ) -> None:
        run = current.run
        current.run = run.outer or NOBODY
        if run.task is not task:
            return
        run.close()
        self._ticker().discard(run)
        if state and run.send is not None and state in states.READY_STATES:
            run.send.settle(retval, state)
