"""Starts the watch on memory in a worker, and brings it each run's begin and end."""

from __future__ import annotations

import logging
from typing import Any

from celery import states
from celery.app.task import Context, Task

from ..celery_internals import UNRUN, traced
from ..policy.planner import policy_of
from ..runtime import ATTRIBUTE, Runtime
from .recycle import child_index, prepare_child, replace_child
from .shared_table import Board
from .watch import MARK, MemoryWatch, Watched

__all__ = ("on_memory_postrun", "on_prerun", "on_process_init", "start_watch")

logger = logging.getLogger("jobtastic_ext")

#: Children that a board has room for at least; an autoscaled pool may outgrow its concurrency.
ROWS = 64


def start_watch(runtime: Runtime, parent: Any) -> bool:
    """Make the watch, before the pool forks, if the policy asks for it; say whether it does."""
    tasks = watched_tasks(runtime)
    if not tasks:
        return False
    isolated = has_process_of_its_own(parent.pool_cls)
    if not isolated and any(task.recycle for task in tasks.values()):
        logger.warning(
            "`memleak_action: recycle` needs the prefork pool; with this one leaks are only logged"
        )
    runtime.memory = MemoryWatch(
        tasks,
        Board(list(tasks), max(ROWS, 2 * int(parent.concurrency or 0)) if isolated else 1),
        pool=None if isolated else pool_name(parent.pool_cls),
        row=child_index if isolated else lambda: 0,
        replace=replace_child if isolated else None,
    )
    return True


def watched_tasks(runtime: Runtime) -> dict[str, Watched]:
    """Return the tasks whose policy sets a threshold."""
    found: dict[str, Watched] = {}
    for name in sorted(runtime.app._tasks):
        policy = policy_of(name, runtime.policies)
        if policy is not None and policy.memleak_threshold is not None:
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


def watch_of(task: Task) -> MemoryWatch | None:
    runtime: Runtime | None = getattr(task.app, ATTRIBUTE, None)
    return None if runtime is None else runtime.memory


def is_part_of_another(request: Context) -> bool:
    """Whether the task was called in place: its memory is that of the run around it."""
    return bool(request.called_directly or request.is_eager)


def on_process_init(sender: Any = None, **_: Any) -> None:
    """A child of the pool has started."""
    prepare_child()


def on_prerun(sender: Task, **_: Any) -> None:
    watch = watch_of(sender)
    if watch is None:
        return
    request = sender.request
    if not is_part_of_another(request):
        try:
            watch.begin(sender.name, request)
        except Exception:
            logger.exception("%s: its memory was not measured", sender.name)


def on_memory_postrun(
    sender: Task, args: Any = (), kwargs: Any = None, state: str | None = None, **_: Any
) -> None:
    watch = watch_of(sender)
    if watch is None:
        return
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
