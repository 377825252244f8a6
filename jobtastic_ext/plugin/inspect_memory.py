"""What ``celery inspect`` asks of a worker: ``celery -A proj inspect jobtastic_memory``."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

from celery.worker.control import inspect_command

from ..memory.shared_table import Entry
from ..runtime import ATTRIBUTE, Runtime


@inspect_command()  # type: ignore[untyped-decorator]
def jobtastic_memory(state: Any, **_: Any) -> dict[str, Any]:
    """Runs, growth, trend and last leak report of each watched task (MB)."""
    runtime: Runtime | None = getattr(state.app, ATTRIBUTE, None)
    watch = None if runtime is None else runtime.memory
    if watch is None:
        return {"error": "no task of this worker has a `memleak_threshold`"}
    return {
        name: described(watch.table.entries(watched.column), shared=watch.pool)
        for name, watched in watch.tasks.items()
    }


def described(entries: list[Entry], shared: str | None) -> dict[str, Any]:
    """Return what all processes of a worker say of one task, ready for JSON."""
    last = max(entries, key=lambda entry: entry.told_at, default=None)
    found: dict[str, Any] = {
        "runs": sum(entry.runs for entry in entries),
        "growth": round(sum(entry.growth for entry in entries), 3),
        "largest_growth": round(max((entry.largest for entry in entries), default=0.0), 3),
        # Of each process that has the task now or had it last.
        "trend": {str(entry.pid): round(entry.per_run, 4) for entry in entries},
        "reports": sum(entry.reports for entry in entries),
        "last_report": None if last is None or not last.told_at else report_of(last),
    }
    if shared is not None:
        found["shared_process"] = f"{shared} pool: growth and trend are those of all its tasks"
    return found


def report_of(entry: Entry) -> dict[str, Any]:
    at = datetime.fromtimestamp(entry.told_at, timezone.utc).isoformat(timespec="seconds")
    report: dict[str, Any] = {
        "at": at,
        "pid": entry.pid,
        "kind": "trend" if entry.told_per_run else "run",
        "growth": round(entry.told_growth, 3),
        "runs": entry.told_runs,
    }
    if entry.told_per_run:
        report["per_run"] = round(entry.told_per_run, 4)
    return report
