"""The end of a run: its claim becomes a result to share, waits for a retry, or is let go."""

from __future__ import annotations

from typing import Any

from celery import states
from celery.app.task import Context, Task
from celery.exceptions import Reject

from ..celery_internals import traced, wait_of
from ..claims.claimed_run import Run, keep_result, release_message
from ..claims.header import HEADER, read_header
from ..claims.line import wake
from ..hooks import RunHooks, RunState, state_of
from .delivery import Deliveries


class Postrun(RunHooks):
    """Sees that no claim outlives its run."""

    def __init__(self, deliveries: Deliveries) -> None:
        self._deliveries = deliveries

    def on_success(self, task: Task) -> None:
        """The result is in the backend: the claim becomes a result to share."""
        run = claim_from(state_of(traced(task)))
        if run is not None:
            keep_result(run)
            run.finish(failed=False)

    def on_postrun(
        self, task: Task, state: str | None, retval: Any, args: Any, kwargs: Any
    ) -> None:
        """Let go of the claim, if that has not happened yet."""
        request = traced(task)
        carried = state_of(request)
        if carried.body == "not reached":
            self._release_unseen(task, request)
            return
        run = claim_from(carried)
        if run is None:
            return  # it had success, or followed or reused another run
        if state == states.RETRY and not run.departed:
            run.requeue(wait_of(task, getattr(retval, "when", None)))
        elif state == states.FAILURE:
            run.finish(failed=True)
        else:
            # Celery rejects a task, for ever, when it cannot send its retry.
            rejected = isinstance(retval, Reject) and not retval.requeue
            run.release(unserved=rejected, silent=state == states.IGNORED)

    def _release_unseen(self, task: Task, request: Context) -> None:
        """`before_start` or `__call__` raised: nobody else lets go of the call."""
        plan = self._deliveries.plan(task)
        if plan is None or not plan.shares or request.is_eager or not request.id:
            return
        header = read_header(getattr(request, HEADER, None), plan.key_head, request.id)
        if header.key:
            store, lines = self._deliveries.store, self._deliveries.lines
            release_message(
                store,
                lines,
                plan,
                header.key,
                request.id,
                after=header.after,
                bare=header.bare,
            )
            wake(store, lines, plan, header.key, header.line)  # the next of the line, in its place


def claim_from(carried: RunState) -> Run | None:
    """Take the claim that a request still holds."""
    run: Run | None = carried.claim
    carried.claim = None
    return run
