"""Starts the watch on memory in a worker, and brings it each run's begin and end."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from celery import states
from celery.app.task import Context, Task

from ..celery_internals import UNRUN, traced
from ..policy.model import TaskPolicy
from .recycle import child_index, replace_child
from .shared_table import Board
from .watch import MARK, MemoryWatch, Watched

__all__ = ("begin", "end", "start_watch")

logger = logging.getLogger("jobtastic_ext")

#: Children that a board has room for at least; an autoscaled pool may outgrow its concurrency.
ROWS = 64


def start_watch(policies: Mapping[str, TaskPolicy], parent: Any) -> MemoryWatch | None:
    """Make the watch, before the pool forks, if the policy of a task, by its name, asks for it."""
    tasks = watched_tasks(policies)
    if not tasks:
        return None
    isolated = has_process_of_its_own(parent.pool_cls)
    if not isolated and any(task.recycle for task in tasks.values()):
        logger.warning(
            "`memleak_action: recycle` needs the prefork pool; with this one leaks are only logged"
        )
    return MemoryWatch(
        tasks,
        Board(list(tasks), max(ROWS, 2 * int(parent.concurrency or 0)) if isolated else 1),
        pool=None if isolated else pool_name(parent.pool_cls),
        row=child_index if isolated else lambda: 0,
        replace=replace_child if isolated else None,
    )


def watched_tasks(policies: Mapping[str, TaskPolicy]) -> dict[str, Watched]:
    """Return the tasks whose policy sets a threshold."""
    found: dict[str, Watched] = {}
    for name, policy in sorted(policies.items()):
        if policy.memleak_threshold is not None:
            found[name] = Watched(
                column=len(found),
                threshold=policy.memleak_threshold,
                trend=policy.memleak_trend,
                trace=policy.memleak_trace,
                recycle=policy.memleak_action == "recycle",
            )
    return found


def has_process_of_its_own(pool: Any) -> bool:
    """Whether each task of this pool runs in a process that runs nothing else meanwhile."""
    return any(base.__module__ == "celery.concurrency.prefork" for base in pool.__mro__)


def pool_name(pool: Any) -> str:
    """Return the name of a pool as ``--pool`` takes it."""
    module = str(pool.__module__).rpartition(".")[2]
    return {"thread": "threads"}.get(module, module)


def is_part_of_another(request: Context) -> bool:
    """Whether the task was called in place: its memory is that of the run around it."""
    return bool(request.called_directly or request.is_eager)


def begin(watch: MemoryWatch, sender: Task) -> None:
    """A task is about to run in this thread."""
    request = sender.request
    if not is_part_of_another(request):
        try:
            watch.begin(sender.name, request)
        except Exception:
            logger.exception("%s: its memory was not measured", sender.name)


def end(watch: MemoryWatch, sender: Task, args: Any, kwargs: Any, state: str | None) -> None:
    """The task is over, however it ended."""
    request = traced(sender)
    if MARK not in request.__dict__:
        return
    try:
        watch.end(
            sender.name,
            sender,
            request,
            args,
            kwargs,
            ran=not hasattr(request, UNRUN),
            failed=state in (states.FAILURE, states.RETRY),
        )
    except Exception:
        logger.exception("%s: its memory was not measured", sender.name)
