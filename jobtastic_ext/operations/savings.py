"""What sharing has saved, task by task."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from ..counts.words import DECISIONS
from ..policy.model import Plan


class Saving(Struct, frozen=True, kw_only=True):
    """One task in some stretch of time.

    Every call is counted under one of the words from `published` to `unsent`, so they add up to
    `calls`.  Times are seconds.
    """

    task: str
    calls: int
    #: Bodies that were entered, in workers and by the eager fallback.
    runs: int
    failed: int
    published: int
    joined: int
    cached: int
    stale: int
    refreshed: int
    buffered: int
    debounced: int
    refused: int
    fallback_eager: int
    fallback_failed: int
    unsent: int
    #: Messages that were given the outcome of another run at the worker.
    reused: int
    #: Messages that were sent to refresh a result served stale.
    refreshing: int
    taken_over: int
    freed_by_lease: int
    leaks: int
    shadow_joined: int
    shadow_cached: int
    shadow_stale: int
    #: Runs that there would have been without the policy.
    avoided: int
    #: Of the calls, how many needed no run of their own: 0 to 1.
    hit_rate: float
    #: What a run takes, as past runs tell; None while none has succeeded.
    seconds_per_run: float | None
    seconds_saved: float
    #: What `shadow` would have saved.
    shadow_seconds: float
    warnings: tuple[str, ...] = ()


def saving(task: str, counts: Mapping[str, int], seconds: float | None, plan: Plan) -> Saving:
    """Return what `counts`, by the words of `counts.words`, mean for a task."""
    calls = sum(counts[word] for word in DECISIONS)
    shared = ("joined", "debounced", "cached", "stale")
    served = sum(counts[word] for word in shared) - counts["refreshing"]
    avoided = max(served + counts["reused"], 0)
    would_be = counts["shadow_joined"] + counts["shadow_cached"] + counts["shadow_stale"]
    plain = {word: number for word, number in counts.items() if word != "ran"}
    return Saving(
        task=task,
        calls=calls,
        runs=counts["ran"],
        **plain,
        avoided=avoided,
        # What came without a call of ours (`send_task`, another language) is known by its end only.
        hit_rate=round(avoided / max(calls, avoided), 4) if avoided else 0.0,
        seconds_per_run=None if seconds is None else round(seconds, 3),
        seconds_saved=round(avoided * (seconds or 0.0), 3),
        shadow_seconds=round(would_be * (seconds or 0.0), 3),
        warnings=tuple(warnings(task, seconds, plan)),
    )


def warnings(task: str, seconds: float | None, plan: Plan) -> list[str]:
    herd = plan.policy.herd_avoidance_timeout
    if seconds is None or plan.exclusive or plan.buffers or not 0 < herd < seconds:
        return []
    return [
        f"{task}: a run takes {seconds:.3g} s, but identical calls wait for it only {herd:g} s "
        "(herd_avoidance_timeout): those that come later start runs of their own; set it to more"
    ]
