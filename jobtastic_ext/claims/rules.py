"""The claim protocol: what one operation does to one claim.

Pure functions of ``(operation, claim, now)``.  `MemoryStore` and `SQLiteStore` run them under
their lock; `RedisStore` runs their twin in Lua, held equal by a differential test.

A *generation* begins with a claim on a free key and ends when its run ends.  Everybody who
claimed, joined or took over within it shares one outcome, so a message carries its generation:
that is how one that comes late knows the result that was meant for it, without any cache.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from .beginning import begin
from .beside import place_of, put_back, seen_from, stand_beside
from .calling import claim_call
from .holders import (
    NO_NEXT,
    after,
    displaced,
    is_run,
    is_unsent,
    kept_for_line,
    queued_again,
    remembered,
    unserved,
)
from .lifetime import later, prune
from .marks import given_up
from .records import (
    LOST,
    OK,
    Answer,
    Begin,
    Claim,
    ClaimCall,
    Ending,
    Finish,
    Forget,
    Holder,
    Lapse,
    Operation,
    Release,
    Renew,
    Requeue,
    Step,
    Value,
)
from .started import freed, silenced


def step(operation: Operation, claim: Claim, now: int) -> Step:
    """Carry out `operation` at store time `now`; return the new claim and the answer."""
    claim = prune(claim, now)
    place = place_of(operation, claim, now)
    seen = seen_from(claim, place) if place else claim
    changed, answer = STEPS[type(operation)](operation, seen, now)
    begun = operation if isinstance(operation, Begin) and answer.word == "run" else None
    if place:
        changed = put_back(claim, changed, begun.task_id if begun else "")
    elif begun is not None and begun.starts:
        changed = stand_beside(changed)
    return changed, replace(answer, at=now)


def ending(op: Ending, claim: Claim, now: int) -> Step:
    holder = claim.holder
    if holder is None or not is_run(holder, op.task_id, op.run):
        return claim, LOST
    return replace(claim, holder=replace(holder, ending=True)), replace(OK, ids=holder.orphans)


def finish(op: Finish, claim: Claim, now: int) -> Step:
    holder = claim.holder
    held = holder if is_run(holder, op.task_id, op.run) else None
    if held is None and not op.unclaimed:
        return claim, LOST
    outdated = held is not None and held.next != ""  # a refresh was asked for meanwhile
    fresh, stale = (0, 0) if outdated else (op.fresh, op.stale)
    followed = held is not None and held.followed
    value = claim.value
    old_serves = value is not None and now < value.stale
    if not op.failed or fresh or (followed and not old_serves):
        value = Value(
            owner=op.task_id,
            gen=held.gen if held else op.gen,
            group=held.group if held else op.group,
            failed=op.failed,
            bare=held.bare if held else False,
            attempt=op.attempt,
            began=held.at if held else 0,
            ended=now,
            fresh=later(now, fresh) if fresh else 0,
            stale=later(now, fresh + stale) if fresh and stale else 0,
            kept=remembered(held, value, now, op.keep),
        )
    claim = replace(claim, value=value)
    if op.failed:
        claim = freed(claim, op.task_id)
    if held is None:
        return claim, OK
    rest = after(held, now, op.hold, ())
    if rest is None and op.line and held.waiting:
        rest = kept_for_line(now, op.hold)
    return replace(claim, holder=rest), replace(OK, ids=held.orphans, waiting=held.waiting)


def release(op: Release, claim: Claim, now: int) -> Step:
    holder, value = claim.holder, claim.value
    message = f"{op.gen}:{op.task_id}"
    if op.unclaimed:
        # It runs, or another caller has sent it again, by which the mark would be meant as well.
        mine = holder is not None and holder.owner == op.task_id
        runs = mine and holder is not None and (holder.state == "running" or holder.taker != "")
        has_run = value is not None and (value.owner, value.gen) == (op.task_id, op.gen)
        if runs or has_run or message in claim.arrivals:
            return claim, LOST
        return given_up(claim, message, later(now, op.give_up)), OK
    if holder is None or (op.give_up and not is_unsent(holder, op)):
        return claim, LOST
    waiting = holder.waiting
    if op.task_id and holder.next == op.task_id and not op.run:
        rest: Holder | None = replace(holder, **NO_NEXT)
        gen, waiting = holder.next_gen, ""
    elif holder.owner == op.task_id and holder.state == "queued" and not op.run:
        if holder.taker and not op.bare:
            return claim, LOST  # another caller has sent it again, and waits for that
        rest, gen = after(holder, now, op.hold, holder.orphans), holder.gen
    elif is_run(holder, op.task_id, op.run or op.after):
        orphans = displaced(holder, holder.next) if op.unserved else holder.orphans
        rest, gen = after(holder, now, op.hold, orphans), holder.gen
        if rest is None and op.line and waiting:
            rest = kept_for_line(now, op.hold)
    else:
        return claim, LOST
    claim = (silenced if op.silent else freed)(replace(claim, holder=rest), op.task_id)
    if op.give_up:
        claim = given_up(claim, f"{gen}:{op.task_id}", later(now, op.give_up))
    return claim, replace(OK, waiting=waiting)


def lapse(op: Lapse, claim: Claim, now: int) -> Step:
    holder = claim.holder
    if holder is None or (holder.owner, holder.taker) != (op.task_id, op.gen):
        return claim, LOST  # perhaps another caller has taken it over since
    return replace(claim, holder=replace(holder, until=now)), OK


def requeue(op: Requeue, claim: Claim, now: int) -> Step:
    holder = claim.holder
    if holder is None or not is_run(holder, op.task_id, op.run):
        return claim, LOST
    return replace(claim, holder=queued_again(holder, now, op.hold, attempt=op.attempt)), OK


def renew(op: Renew, claim: Claim, now: int) -> Step:
    holder = claim.holder
    if holder is None or not is_run(holder, op.task_id, op.run):
        return claim, LOST
    claim = replace(claim, holder=replace(holder, until=later(now, op.lease)))
    return claim, Answer("ok", holder.run)


def forget(op: Forget, claim: Claim, now: int) -> Step:
    known = any(part is not None for part in (claim.holder, claim.value, claim.started))
    rest, waiting = None, ""
    if claim.holder is not None:
        # Should it be dead, those who wait for it are served by the next run.
        rest = unserved(displaced(claim.holder, ""), claim.holder.gen, now)
        waiting = claim.holder.waiting
    forgotten = replace(claim, holder=rest, value=None, started=None)
    return forgotten, replace(OK if known else LOST, waiting=waiting)


STEPS: dict[type, Callable[[Any, Claim, int], Step]] = {
    ClaimCall: claim_call,
    Begin: begin,
    Ending: ending,
    Finish: finish,
    Release: release,
    Lapse: lapse,
    Requeue: requeue,
    Renew: renew,
    Forget: forget,
}
