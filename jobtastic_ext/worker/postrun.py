"""The end of a run: its claim becomes a result to share, waits for a retry, or is let go."""

from __future__ import annotations

import logging
from datetime import datetime
from typing import Any

from celery import states
from celery.app.task import Context, Task
from celery.exceptions import Reject

from ..celery_internals import RUN, seconds_until, traced
from ..claims.claimed_run import Run, keep_result, release_message
from ..claims.header import HEADER, read_header
from .delivery import Deliveries

__all__ = (
    "end",
    "succeed",
)

logger = logging.getLogger("jobtastic_ext")


def succeed(task: Task) -> None:
    """The result is in the backend: the claim becomes a result to share."""
    request = traced(task)
    run: Run | None = getattr(request, RUN, None)
    if run is None:
        return
    setattr(request, RUN, None)
    keep_result(run)
    run.finish(failed=False)


def end(deliveries: Deliveries, task: Task, state: str | None, retval: Any) -> None:
    """The task is over; see that its claim is let go, if that has not happened yet."""
    request = traced(task)
    if not hasattr(request, RUN):
        release_unseen(deliveries, task, request)
        return
    run: Run | None = getattr(request, RUN)
    if run is None:
        return  # it had success, or followed or reused another run
    setattr(request, RUN, None)
    if state == states.RETRY and not run.departed:
        run.requeue(wait_of(task, getattr(retval, "when", None)))
    elif state == states.FAILURE:
        run.finish(failed=True)
    else:
        # Celery rejects a task, for ever, when it cannot send its retry.
        run.release(unserved=isinstance(retval, Reject) and not retval.requeue)


def release_unseen(deliveries: Deliveries, task: Task, request: Context) -> None:
    """The body was never reached (`before_start` or `__call__` raised): let go of the call."""
    plan = deliveries.plan(task)
    if plan is None or not plan.shares or request.is_eager or not request.id:
        return
    header = read_header(getattr(request, HEADER, None), plan.key_head, request.id)
    if not header.key:
        return
    release_message(deliveries.store, plan, header.key, request.id, header.bare)


def wait_of(task: Task, when: Any) -> float:
    """Return in how many seconds a retry is due."""
    return seconds_until(task, when) if isinstance(when, datetime) else float(when or 0)
