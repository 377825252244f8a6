"""Calls that wait until it has been quiet, and whose arguments the run that waits gets.

A claim that is queued, or the run that follows the present one, has a time at which it is *due*.
Until then each further call moves it on: to `debounce` after that call, at the latest to
`debounce_max` after the first one; a countdown that a caller asks for is kept in any case.
"""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from .holders import FREE, both, displaced, has_begun, queued, without_dead
from .lifetime import later
from .records import FOREVER, Answer, Begin, Claim, ClaimCall, Holder


def due_at(op: ClaimCall | Begin, now: int, first: int = 0, due: int = 0) -> int:
    """When the run is due after this call; the `first` of its burst came then, or is this one."""
    if isinstance(op, ClaimCall) and op.refresh:
        return now if due else 0
    quiet = min(now + op.debounce, (first or now) + op.debounce_max) if op.debounce else 0
    asked = now + op.countdown if isinstance(op, ClaimCall) and op.countdown else 0
    return min(max(due, quiet, asked), FOREVER)


def is_waiting(holder: Holder, now: int) -> bool:
    """Whether what would serve a call, the queued message or the next run, is not due yet."""
    if holder.next:
        return now < holder.next_due
    return holder.state == "queued" and now < holder.due


def outrun(holder: Holder) -> Holder:
    """What waits is not put off any more; its message comes later, and finds how it has ended."""
    until = max(holder.outrun, holder.next_due if holder.next else holder.due)
    return replace(holder, followed=True, outrun=until)


def put_off(op: ClaimCall | Begin, holder: Holder, now: int) -> Holder:
    """One more call has come, before the run that will serve it has begun."""
    if holder.next:
        if now < holder.next_due:
            due = due_at(op, now, holder.next_at, holder.next_due)
            holder = replace(holder, next_due=due)
        return replace(holder, next_arguments=op.arguments or holder.next_arguments)
    if has_begun(holder):
        return holder
    if now < holder.due:
        due = due_at(op, now, holder.at, holder.due)
        until, looked = later(due, holder.until - holder.due), min(holder.looked, due)
        holder = replace(holder, due=due, until=until, looked=looked)
    return replace(holder, arguments=op.arguments or holder.arguments)


def next_run(op: ClaimCall | Begin, now: int) -> dict[str, Any]:
    """What a run keeps of the call that waits for its end."""
    gen = op.gen or (op.run if isinstance(op, Begin) else "")
    due = due_at(op, now)
    return {"next": op.task_id, "next_gen": gen, "next_at": now if due else 0, "next_due": due}


def wait_until_due(op: Begin, claim: Claim, now: int) -> tuple[Claim, Answer | None]:
    """Count a message that is itself a call, and answer one that is not to run yet.

    ``wait``: it is due in `rest`.  ``joined``: another message will serve it, and has not begun.
    """
    holder = claim.holder
    if holder is not None and holder.owner != op.task_id:
        holder = without_dead(holder, now, op.lease)
        claim = replace(claim, holder=holder)
    if holder is None or now >= holder.until:
        if not op.debounce:
            return claim, None
        gen, due, before = op.gen or op.run, due_at(op, now), holder or FREE
        fresh = queued(
            op.task_id,
            gen,
            now,
            op.lease,
            due=due,
            group=op.group,
            orphans=displaced(holder, op.task_id),
            waiting=both(before.waiting, op.waited),
            outrun=before.outrun,
        )
        answer = Answer("wait", op.task_id, gen, rest=due - now)
        return replace(claim, holder=fresh), answer
    foreign = holder.owner != op.task_id
    if op.debounce and foreign and not holder.line:
        if has_begun(holder) and not holder.next:
            holder = replace(holder, **next_run(op, now))
        else:
            holder = put_off(op, holder, now)
        claim = replace(claim, holder=holder)
    if holder.state == "queued" and now < holder.due:
        rest = holder.due - now
        if not foreign:
            claim = replace(claim, holder=replace(holder, looked=holder.due))
            return claim, Answer("wait", holder.owner, holder.gen, rest=rest)
        claim = replace(claim, holder=replace(holder, followed=True))
        answer = Answer("joined", holder.owner, holder.gen, rest=holder.until - now)
        return claim, answer
    if op.debounce and foreign and has_begun(holder) and holder.next != op.task_id:
        claim = replace(claim, holder=replace(holder, followed=True))
        rest = holder.until - now
        return claim, Answer("joined", holder.next, holder.next_gen, rest=rest)
    return claim, None
