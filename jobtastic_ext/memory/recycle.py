"""Replace this child of a prefork pool after the present run, as `worker_max_tasks_per_child` does.

billiard's child asks `Worker.wait_for_job` for each job, after the result of the last one has been
written.  An exit from there takes the way of a child that has done its number of tasks: it waits
until the main process has read its results, says that it leaves, and is replaced.  A job that was
sent to it meanwhile has not been accepted, and the main process gives it to another child.
"""

from __future__ import annotations

import logging
import sys
from typing import Any

from billiard.pool import EX_RECYCLE
from billiard.process import current_process

logger = logging.getLogger("jobtastic_ext")

#: The attribute of billiard's `Worker` that says that this child is to be replaced.
ASKED = "jobtastic_replace"


def child_worker() -> Any:
    """Return billiard's `Worker` of this child; None in any other process."""
    worker = getattr(current_process(), "_target", None)
    return worker if hasattr(worker, "wait_for_job") else None


def child_index() -> int:
    """Return which of the pool's places this child has, 0 in any other process."""
    return int(getattr(current_process(), "index", 0) or 0)


def place_in_pool() -> int | None:
    """Return which of the pool's places this child has; None in any other process.

    Others are children of the worker as well: `worker -B` starts one for beat.
    """
    return child_index() if child_worker() is not None else None


def prepare_child() -> None:
    """Let `replace_child` work here; called when the child starts, before it takes a job."""
    worker = child_worker()
    if worker is None or hasattr(worker, ASKED):
        return
    wait_for_job = worker.wait_for_job
    setattr(worker, ASKED, False)

    def wait_or_leave() -> Any:
        if getattr(worker, ASKED):
            # billiard notes the exit code in its own `sys.exit`.
            sys.exit(EX_RECYCLE)
        return wait_for_job()

    worker.wait_for_job = wait_or_leave


def replace_child() -> bool:
    """Ask for this child to be replaced after the present run; False if it cannot be."""
    worker = child_worker()
    if worker is None or not hasattr(worker, ASKED):
        return False
    setattr(worker, ASKED, True)
    return True
