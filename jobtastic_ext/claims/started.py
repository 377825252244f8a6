"""At most one start in a time (`unique_for`): whose it was, and whether it still counts."""

from __future__ import annotations

from msgspec.structs import replace

from .holders import awaits
from .lifetime import later
from .records import Begin, Claim, ClaimCall, Started


def in_force(op: ClaimCall | Begin, claim: Claim, now: int) -> Started | None:
    """Return the start after which this call or message is not to start another run.

    A failure has freed it, and so has the death of its run.
    """
    started = claim.started
    if started is None or now >= later(started.at, op.unique) or op.refresh:
        return None
    failed = not (isinstance(op, ClaimCall) and op.well)
    if started.owner == op.task_id or (started.owner == op.gone and failed):
        return None
    run = claim.run_of(started.owner)
    return started if run is None or now < run.until else None


def in_force_for(op: Begin, claim: Claim, now: int) -> Started | None:
    """The same for a message that nobody is asked to run."""
    asked = op.attempt or awaits(claim.holder, op.task_id)
    return None if asked else in_force(op, claim, now)


def begun(op: Begin, claim: Claim, now: int, gen: str) -> Started | None:
    """What is to be remembered of a run that begins now; a retry is no other start."""
    started = claim.started
    if not op.unique or op.attempt:
        return started
    return Started(owner=op.task_id, gen=gen, at=now, until=later(now, op.unique))


def silenced(claim: Claim, task_id: str) -> Claim:
    """Let the start of this task count, whose run has ended without a result."""
    if claim.started is None or claim.started.owner != task_id:
        return claim
    return replace(claim, started=replace(claim.started, silent=True))


def freed(claim: Claim, task_id: str) -> Claim:
    """Let another run start: that of this task has come to nothing."""
    if claim.started is None or claim.started.owner != task_id:
        return claim
    return replace(claim, started=None)
