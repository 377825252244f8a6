"""What is told of a leak: the log line, the signal, and a task's own `warn_of_memory_leak`."""

from __future__ import annotations

import logging
import reprlib
from collections.abc import Iterable
from typing import Any

from msgspec import Struct

from .. import signals
from .allocation_sites import Site
from .trend import Growth

logger = logging.getLogger("jobtastic_ext")


class LeakyRun(Struct, kw_only=True):
    """The run in which something is told.  Usage in MB, at its begin and its end."""

    task: Any
    task_id: str
    args: Any
    kwargs: Any
    beginning_usage: float
    ending_usage: float
    #: What the task has added.
    growth: float
    #: What else there is to know: imports, other tasks in the process, what happens next.
    notes: tuple[str, ...] = ()

    def arguments(self) -> dict[str, str]:
        """The arguments as they may be shown: masked as whoever sent the task asked for."""
        request = self.task.request
        shown = {}
        for name, value in (("args", self.args), ("kwargs", self.kwargs)):
            masked = getattr(request, f"{name}repr", None)
            shown[name] = masked if isinstance(masked, str) else reprlib.repr(value)
        return shown


def tell_run(told: LeakyRun, threshold: float, sites: Iterable[Site] = ()) -> None:
    """One run grew its process by more than `threshold`."""
    warn = getattr(told.task, "warn_of_memory_leak", None)
    if callable(warn):
        try:
            # Bytes: it is the name, and these are the units, of the `jobtastic` library.
            sizes = (told.growth, told.beginning_usage, told.ending_usage)
            warn(*(round(size * 1_000_000) for size in sizes), told.kwargs)
        except Exception:
            logger.exception("%s: its warn_of_memory_leak failed", told.task.name)
    else:
        shown = told.arguments()
        logger.warning(
            "%s[%s] grew its process by %.1f MB, from %.1f MB to %.1f MB (memleak_threshold: %g): "
            "args=%s kwargs=%s%s",
            told.task.name,
            told.task_id,
            told.growth,
            told.beginning_usage,
            told.ending_usage,
            threshold,
            shown["args"],
            shown["kwargs"],
            tail(told.notes, sites),
        )
    send(told, kind="run", growth=told.growth, per_run=None, runs=1)


def tell_growth(
    told: LeakyRun, names: Iterable[str], growth: Growth, where: str, sites: Iterable[Site] = ()
) -> None:
    """Memory grows from run to run, of one task or of several that share a process."""
    names = sorted(names)
    who = names[0] if len(names) == 1 else f"one of {', '.join(names)}"
    logger.warning(
        "%s leaks: about %.3g MB a run, %.1f MB over %d runs in this process (%s); "
        "it is at %.1f MB now%s",
        who,
        growth.per_run,
        growth.total,
        growth.runs,
        where,
        told.ending_usage,
        tail(told.notes, sites),
    )
    send(told, kind="trend", growth=growth.total, per_run=growth.per_run, runs=growth.runs)


def tell_sites(name: str, sites: Iterable[Site], level: int) -> None:
    """New memory that runs of a task hold, by the line that allocated it."""
    logger.log(level, "%s: new memory is held by %s", name, listed(sites))


def tail(notes: Iterable[str], sites: Iterable[Site]) -> str:
    parts = list(notes)
    where = listed(sites)
    if where:
        parts.append(f"new memory is held by {where}")
    return "".join(f"; {part}" for part in parts)


def listed(sites: Iterable[Site]) -> str:
    return ", ".join(f"{site.place} ({site.mb:.3g} MB)" for site in sites)


def send(told: LeakyRun, **facts: Any) -> None:
    """Send the signal; a handler that raises is logged by Celery and changes nothing."""
    shown = told.arguments()
    signals.memory_leak_detected.send(
        sender=told.task,
        task_id=told.task_id,
        beginning_usage=told.beginning_usage,
        ending_usage=told.ending_usage,
        args=told.args,
        kwargs=told.kwargs,
        argsrepr=shown["args"],
        kwargsrepr=shown["kwargs"],
        **facts,
    )
