"""What a call does to the claim of its key: it claims, joins, takes over or is served."""

from __future__ import annotations

from msgspec.structs import replace

from .debounce import due_at, is_waiting, next_run, outrun, put_off
from .holders import (
    FREE,
    NO_NEXT,
    after,
    displaced,
    has_begun,
    has_left,
    is_granted,
    queued,
    queued_again,
    remembered,
    without_dead,
)
from .lifetime import later
from .records import LINGER, MOMENT, Answer, Claim, ClaimCall, Holder, Started, Step, Value, Word
from .started import freed, in_force


def claim_call(op: ClaimCall, claim: Claim, now: int) -> Step:
    before = claim.holder or FREE
    if claim.holder is not None and claim.holder.line:
        claim = replace(claim, holder=None)  # of a task that took turns before
    claim, orphans = without_gone(op, claim, now)
    value, holder = claim.value, claim.holder
    refreshes = False
    # After one that was granted since, the message of which may be lost, this start does not count.
    started = None if is_granted(holder) else in_force(op, claim, now)
    if value is not None:
        if now < value.fresh:
            return claim, Answer("cached", value.owner, value.gen)
        if now < value.stale and not op.pinned:
            if is_held(holder, now) or started is not None:
                return claim, Answer("stale", value.owner, value.gen)
            refreshes = True
        elif shares_group(op, value, now):
            return claim, Answer("joined", value.owner, value.gen)
    if not op.hold and refreshes and value is not None:
        return claim, Answer("refresh", value.owner, value.gen)
    if not op.hold:
        return claim, Answer("free", value.owner if value else op.task_id, op.gen)
    for name in sorted(claim.beside):
        run = claim.beside[name]
        if op.group and run.group == op.group and now < run.until and not op.refresh:
            return claim, Answer("joined", run.owner, run.gen)  # a part of the same group
    if started is not None and not is_held(holder, now):
        return claim, join_start(op, claim, started, now)
    if holder is not None and not refreshes:
        if op.wants_later:
            holder = without_dead(holder, now, op.hold)
        held = settle_by_holder(op, claim, holder, now)
        if held is not None:
            return held
    fresh = queued(
        op.task_id,
        op.gen,
        now,
        op.hold,
        due=due_at(op, now),
        expires=later(now, op.expires) if op.expires else 0,
        group=op.group,
        orphans=orphans,
        waiting=before.waiting,
        outrun=before.outrun,
    )
    claim = replace(claim, holder=fresh)
    if refreshes and value is not None:
        return claim, Answer("refresh", value.owner, value.gen)
    return claim, Answer("claimed", op.task_id, op.gen, rest=max(fresh.due - now, 0))


def without_gone(op: ClaimCall, claim: Claim, now: int) -> tuple[Claim, tuple[str, ...]]:
    """Leave out what the call is not to be served with; return who would lose the claim to it."""
    value, holder = claim.value, claim.holder
    if value is not None and op.refresh:
        value = replace(value, fresh=0, stale=0)  # for those who wait for it, not for this call
    unreadable = "" if op.readable else op.gone
    if value is not None and value.owner in (unreadable, op.task_id):
        value = None  # or sent anew under the same id
    if op.gone and not op.well:
        claim = freed(claim, op.gone)
    orphans = displaced(holder, op.task_id)
    if holder is not None and holder.owner == op.gone and is_over(holder, now):
        if holder.followed:
            # It ended some time ago, so only its own generation may have it.
            kept = remembered(holder, value, now, LINGER)
            value = Value(owner=holder.owner, gen=holder.gen, bare=holder.bare, kept=kept)
        orphans = holder.orphans
        holder = after(holder, now, op.hold, orphans)
    return replace(claim, holder=holder, value=value), orphans


def settle_by_holder(op: ClaimCall, claim: Claim, holder: Holder, now: int) -> Step | None:
    """Answer by the run or the message that holds the claim; None if this call has it now."""
    if may_join(op, holder, now):
        return join(op, claim, holder, now)
    over = now >= holder.until and (holder.state == "queued" or not op.wants_later)
    followed = replace(claim, holder=replace(holder, followed=True))
    if over and op.pinned:
        # Published under its own id all the same; the worker takes over.
        newest = replace(put_off(op, holder, now), followed=True)
        return replace(claim, holder=newest), Answer("joined", holder.owner, holder.gen)
    if over and outlasts(op, holder, now):
        return take_over(op, claim, holder, now)
    if op.expires and now < holder.expires:
        # The first of the two messages runs.  Were the claim to go to the later one again and
        # again, none would in a long queue.
        return followed, Answer("free", op.task_id, holder.gen)
    return None


def shares_group(op: ClaimCall, value: Value, now: int) -> bool:
    """Whether the call is part of the same group or chord as the run that ended."""
    if op.refresh or value.failed or now >= value.kept:
        return False
    return op.group != "" and op.group == value.group


def is_held(holder: Holder | None, now: int) -> bool:
    """Whether identical calls wait for this holder."""
    if holder is None or now >= holder.until:
        return False
    return holder.state == "queued" or now < holder.herd


def is_over(holder: Holder, now: int) -> bool:
    """Whether the run may have ended without the claim knowing."""
    if wakes_next(holder, now):
        return False
    return holder.ending or is_unmarked(holder) or holder.state == "queued" or now >= holder.until


def wakes_next(holder: Holder, now: int) -> bool:
    """Whether somebody who is alive ends it, and is to wake what waits for its end."""
    return holder.next != "" and now < holder.until


def is_unmarked(holder: Holder) -> bool:
    """Whether it may have ended, with success, although nobody has said so."""
    return holder.unmarked and holder.state == "running"


def may_join(op: ClaimCall, holder: Holder, now: int) -> bool:
    if is_held(holder, now):
        return holder.owner == op.task_id or outlasts(op, holder, now)
    # Others wait no longer for this run, but a refresh waits for its end, and others for that.
    return now < holder.until and (op.wants_later or holder.next != "")


def outlasts(op: ClaimCall, holder: Holder, now: int) -> bool:
    """Whether the message that is queued lives for about as long as that of this call would."""
    if holder.state != "queued" or not holder.expires:
        return True
    return op.expires > 0 and later(now, op.expires // 2) < holder.expires


def join(op: ClaimCall, claim: Claim, holder: Holder, now: int) -> Step:
    foreign = holder.owner != op.task_id
    if op.wants_later and foreign and has_begun(holder) and not holder.next:
        if not op.pinned and is_overdue(holder, now):  # a retry that may never come
            looks = replace(claim, holder=replace(holder, looked=now))
            return looks, Answer("overdue", holder.owner, holder.gen)
        waiting = replace(holder, **next_run(op, now))
        rest = max(waiting.next_due - now, 0)
        return replace(claim, holder=waiting), Answer("buffered", op.task_id, op.gen, rest=rest)
    hastened = foreign and op.refresh and is_waiting(holder, now)
    if hastened:
        holder = outrun(holder)
    if foreign:
        holder = put_off(op, holder, now)
    if hastened and not op.pinned:
        if holder.next:
            return replace(claim, holder=holder), Answer("hastened", holder.next, holder.next_gen)
        sent = replace(holder, taker=op.gen)
        return replace(claim, holder=sent), Answer("hastened", holder.owner, holder.gen)
    claim = replace(claim, holder=holder)
    started = in_force(op, claim, now)
    counts = started is not None and started.owner == holder.owner
    answer = Answer("joined", holder.owner, holder.gen)
    if holder.next and foreign:
        answer = Answer("joined", holder.next, holder.next_gen)
    elif foreign and not op.pinned and holder.ending:
        answer = replace(answer, word="started" if counts else "ending")
    elif foreign and not op.pinned and is_unmarked(holder) and not counts:
        answer = replace(answer, word="unmarked")
    elif foreign and not op.pinned and is_overdue(holder, now):
        claim = replace(claim, holder=replace(holder, looked=now))
        return claim, replace(answer, word="overdue")
    if op.pinned and not holder.followed:
        claim = replace(claim, holder=replace(holder, followed=True))
    return claim, answer


def join_start(op: ClaimCall, claim: Claim, started: Started, now: int) -> Answer:
    """Share the one start in a time; who looks may find that it has failed, or its result gone."""
    run = claim.run_of(started.owner)
    word: Word = "joined"
    if op.pinned or op.gone == started.owner:
        pass  # it is settled at the worker, or the caller has seen the result
    elif run is None:
        word = "started" if started.silent else "ended"
    elif run.ending or is_overdue(run, now):
        word = "started"
    return Answer(word, started.owner, started.gen)


def is_overdue(holder: Holder, now: int) -> bool:
    """Whether its task may have ended without the claim knowing, although nobody has begun it.

    Its message is expected at the time that it was first due, however often calls put that off.
    One caller looks each moment: what had ended a moment ago is found, and to join stays cheap.
    """
    taken = holder.taker != "" and now >= holder.due
    past = now - max(holder.at, holder.looked) >= MOMENT
    return holder.state == "queued" and (taken or past)


def take_over(op: ClaimCall, claim: Claim, holder: Holder, now: int) -> Step:
    """Publish under the dead run's id, or a lost message's, so that all who joined it are served.

    A refresh that waited for it, and may be lost, is served by the same run: it begins later.
    A message that only waits in a long queue gets a copy after twice the time of the last one.
    It is not put off: who has joined has waited for long enough.
    """
    again = holder.state == "queued" and holder.taker
    length = min(2 * (holder.until - max(holder.at, holder.due)), LINGER) if again else 0
    taken = queued_again(
        holder,
        now,
        max(op.hold, length),
        arguments=op.arguments,
        attempt=0,
        taker=op.gen,
        followed=True,
        orphans=displaced(holder, holder.owner),
        **NO_NEXT,
    )
    answer = Answer("takeover", holder.owner, holder.gen, left=has_left(holder, now))
    return replace(claim, holder=taken), answer
