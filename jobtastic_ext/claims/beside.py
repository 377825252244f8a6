"""Runs that hold nobody up: with `unique_until: start` they stand beside the claim of their call.

For the messages of such a run (a second delivery, its retry, one that it serves) and for its end
the rules are those of a claim that it holds: each has a place which is seen as one.
"""

from __future__ import annotations

from msgspec.structs import replace

from .holders import awaits, displaced, is_run
from .records import (
    MOST_BESIDE,
    MOST_ORPHANS,
    Begin,
    Claim,
    Ending,
    Finish,
    Operation,
    Release,
    Renew,
    Requeue,
)
from .started import in_force_for


def place_of(op: Operation, claim: Claim, now: int) -> str:
    """Return the task whose place the operation is about; empty if it is about the claim."""
    if isinstance(op, Begin):
        return place_of_message(op, claim, now)
    if not isinstance(op, Ending | Finish | Requeue | Renew | Release):
        return ""
    run = claim.beside.get(op.task_id)
    if run is None:
        return ""
    sent_by = op.after if isinstance(op, Release) else ""
    if is_run(run, op.task_id, op.run or sent_by):
        return op.task_id
    if op.run or not isinstance(op, Release):
        return ""
    retries = run.state == "queued" and not awaits(claim.holder, op.task_id)
    return op.task_id if retries or op.unclaimed else ""


def place_of_message(op: Begin, claim: Claim, now: int) -> str:
    """Its own; that of the run which serves it, too; or that of the only start for a time."""
    if op.task_id in claim.beside:
        return op.task_id
    serving = [
        name
        for name, run in claim.beside.items()
        if (op.gen and run.gen == op.gen) or op.task_id in run.orphans
    ]
    if serving:
        return min(serving)
    started = in_force_for(op, claim, now)
    return started.owner if started is not None and started.owner in claim.beside else ""


def seen_from(claim: Claim, name: str) -> Claim:
    """The claim as it is for the run of that task, which holds it there."""
    others = {other: run for other, run in claim.beside.items() if other != name}
    return replace(claim, holder=claim.beside[name], beside=others)


def put_back(claim: Claim, changed: Claim, begins: str) -> Claim:
    """Undo `seen_from` after a change; `begins` is the task whose run has begun there."""
    beside, run = changed.beside, changed.holder
    if run is not None:
        beside = {**beside, run.owner: run}
    holder = None if begins and awaits(claim.holder, begins) else claim.holder
    return replace(changed, holder=holder, beside=beside)


def stand_beside(claim: Claim) -> Claim:
    """Let the run that has just begun hold nobody up."""
    run = claim.holder
    if run is None:
        return claim
    beside = {**claim.beside, run.owner: run}
    if len(beside) > MOST_BESIDE:
        del beside[min(beside, key=lambda name: (beside[name].until, name))]
    return replace(claim, holder=None, beside=beside)


def adopt(claim: Claim, now: int) -> tuple[Claim, tuple[str, ...]]:
    """Take over those whose run has died; return who they are, too."""
    dead = [claim.beside[name] for name in sorted(claim.beside) if now >= claim.beside[name].until]
    if not dead:
        return claim, ()
    alive = {name: run for name, run in claim.beside.items() if now < run.until}
    return replace(claim, beside=alive), tuple(one for run in dead for one in displaced(run, ""))


def with_adopted(ids: tuple[str, ...], others: tuple[str, ...], task_id: str) -> tuple[str, ...]:
    """Whom a run serves, with those that it has adopted; without itself."""
    found = [one for one in dict.fromkeys((*ids, *others)) if one != task_id]
    return tuple(found[-MOST_ORPHANS:])
