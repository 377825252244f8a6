"""Starts the watch on memory in a worker, and brings it each run's begin and end."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from celery import states
from celery.app.task import Task

from ..celery_internals import traced
from ..hooks import RunHooks, state_of
from ..policy.model import TaskPolicy
from .recycle import child_index, replace_child
from .shared_table import SharedTable
from .watch import MemoryWatch, Watched

logger = logging.getLogger("jobtastic_ext")

#: Children that a table has room for at least; an autoscaled pool may outgrow its concurrency.
ROWS = 64


def start_watch(
    policies: Mapping[str, TaskPolicy],
    parent: Any,
    on_report: Callable[[str], object] = lambda name: None,
) -> MemoryWatch | None:
    """Make the watch, before the pool forks, if the policy of a task, by its name, asks for it.

    `on_report` is told the name of each task of which a leak is reported.
    """
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
        SharedTable(list(tasks), max(ROWS, 2 * int(parent.concurrency or 0)) if isolated else 1),
        pool=None if isolated else pool_name(parent.pool_cls),
        row=child_index if isolated else lambda: 0,
        replace=replace_child if isolated else None,
        on_report=on_report,
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


class MemoryRuns(RunHooks):
    """Brings a watch each run's begin and end."""

    def __init__(self, watch: MemoryWatch) -> None:
        self._watch = watch

    def on_prerun(self, task: Task) -> None:
        request = task.request
        # What is called in place is a part of the run around it.
        if not (request.called_directly or request.is_eager):
            self._watch.begin(task.name, request)

    def on_postrun(
        self, task: Task, state: str | None, retval: Any, args: Any, kwargs: Any
    ) -> None:
        request = traced(task)
        ran = state_of(request).body != "left out"
        failed = state in (states.FAILURE, states.RETRY)
        self._watch.end(task, request, args, kwargs, ran=ran, failed=failed)
