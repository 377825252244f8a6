"""The claims that there are, each as an operator sees it.

Which arguments a call has is not stored, so nobody can read them here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Literal
from urllib.parse import unquote

from msgspec import Struct

from ..claims.holders import worker_of
from ..claims.records import FOREVER, Claim, Holder
from ..keys.call_key import keys_head
from ..policy.model import Plan

State = Literal["queued", "running", "waiting", "done"]

#: What comes behind the prefix in the key of a call: the task's `cache_prefix` and a hash.
OF_A_CALL = re.compile(r"(?P<head>(?P<name>[^:]+):)[0-9a-f]{32}")


class Held(Struct, frozen=True, kw_only=True):
    """One call that is under way, or whose result is shared.  Times are seconds."""

    key: str
    #: The task; of several with one `cache_prefix`, all of them, with a comma between two.
    task: str
    #: `done`: nothing is under way, but the last result is shared or remembered.
    state: Literal["queued", "running", "done"]
    #: Task id of what is queued or running, or has the result.
    id: str
    #: The name of the worker that runs it; empty while none does.
    worker: str
    #: Since it was queued, began to run, or ended.
    age: float
    #: Until the message counts as lost, the lease is over, or the result is shared no more; less
    #: than 0 if that has passed, None for never.
    deadline: float | None
    #: Its deadline has passed: the next call sends it again.
    overdue: bool
    #: Messages that are parked until it ends, ids whose claim it took, and a call for after it.
    #: Callers who have joined it are not known.
    waiting: int
    attempt: int = 0

    def fits(self, wanted: Wanted) -> bool:
        """Whether it is one of those that are asked for."""
        state = wanted.state
        return (
            (not wanted.task or any(fnmatchcase(n, wanted.task) for n in self.task.split(",")))
            and (state is None or self.state == state or (state == "waiting" and self.waiting > 0))
            and (state == "done" or wanted.results or self.state != "done")
            and self.age >= wanted.older
            and (self.overdue or not wanted.overdue)
        )


class Wanted(Struct, frozen=True, kw_only=True):
    """Which claims are asked for."""

    #: A glob of task names; empty for all.
    task: str = ""
    state: State | None = None
    #: Seconds.
    older: float = 0.0
    overdue: bool = False
    #: Those, too, of which nothing but the result is left.
    results: bool = False


class Names:
    """From keys to tasks."""

    def __init__(self, key_prefix: str, plans: Mapping[str, Plan]) -> None:
        self.head = keys_head(key_prefix)
        self._tasks: dict[str, list[str]] = {}
        for task, plan in plans.items():
            self._tasks.setdefault(plan.key_head, []).append(task)

    def task_of(self, key: str) -> str | None:
        """Return the task, or tasks, that a key is of; None if it is not the key of a call."""
        found = OF_A_CALL.fullmatch(key, len(self.head))
        if found is None:
            return None
        tasks = self._tasks.get(self.head + found["head"])
        # A task that this app does not know, or no policy is meant for any more.
        return ",".join(tasks) if tasks else unquote(found["name"])


def held(
    names: Names,
    claims: Iterable[tuple[str, Claim]],
    now: int,
    parked: Callable[[str, str], int],
) -> Iterator[Held]:
    """Return what claims mean; `parked` counts the messages that wait for a key at some places."""
    for key, claim in claims:
        task = names.task_of(key)
        if task is None:
            continue
        runs = [under_way(key, task, run, now, parked) for run in (claim.holder, *beside(claim))]
        if not any(runs):
            runs = [ended(key, task, claim, now)]
        yield from (each for each in runs if each is not None)


def beside(claim: Claim) -> list[Holder]:
    """The runs that hold nobody up, in the order of their start."""
    return sorted(claim.beside.values(), key=lambda run: (run.at, run.owner))


def under_way(
    key: str, task: str, holder: Holder | None, now: int, parked: Callable[[str, str], int]
) -> Held | None:
    if holder is None or not holder.owner or not holder.at:
        return None  # kept for a line, or for those whom the next run serves: nobody has it
    waiting = parked(key, holder.waiting) if holder.waiting else 0
    return Held(
        key=key,
        task=task,
        state=holder.state,
        id=holder.owner,
        worker=worker_of(holder.run),
        age=max(now - holder.at, 0) / 1000,
        deadline=left(holder.until, now),
        overdue=now >= holder.until,
        waiting=waiting + len(holder.orphans) + bool(holder.next),
        attempt=holder.attempt,
    )


def ended(key: str, task: str, claim: Claim, now: int) -> Held | None:
    value = claim.value
    if value is None:
        return None
    shared = max(value.fresh, value.stale)
    return Held(
        key=key,
        task=task,
        state="done",
        id=value.owner,
        worker="",
        age=max(now - value.ended, 0) / 1000,
        deadline=left(shared, now),
        overdue=False,
        waiting=0,
        attempt=value.attempt,
    )


def left(until: int, now: int) -> float | None:
    return None if until >= FOREVER else (until - now) / 1000
