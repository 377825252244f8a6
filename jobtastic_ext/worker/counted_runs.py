"""Counts the runs of policy tasks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from celery import states
from celery.app.task import Task

from ..celery_internals import traced
from ..counts.tally import Tally
from ..hooks import Entered, RunHooks, state_of
from ..policy.model import Plan


class CountedRuns(RunHooks):
    """Counts each body that is entered, and each run that has failed, in a worker.

    What falls back and runs at its caller is counted there.
    """

    def __init__(self, plan: Callable[[Task], Plan | None], tally: Tally) -> None:
        self._plan, self._tally = plan, tally

    def on_prerun(self, task: Task) -> None:
        plan, request = self._plan(task), task.request
        if plan is not None and not plan.shares and not request.is_eager:  # its body is not wrapped
            self._tally.count(task.name, "ran")

    @contextmanager
    def around_body(self, entered: Entered) -> Iterator[None]:
        self._tally.count(entered.task.name, "ran")
        yield

    def on_postrun(
        self, task: Task, state: str | None, retval: Any, args: Any, kwargs: Any
    ) -> None:
        request, plan = traced(task), self._plan(task)
        if state != states.FAILURE or plan is None or request.is_eager:
            return
        if not plan.shares or state_of(request).body == "reached":
            self._tally.count(task.name, "failed")
