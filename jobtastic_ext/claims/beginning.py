"""What a message does to the claim of its call when a worker has it in hand."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from .beside import adopt, with_adopted
from .debounce import wait_until_due
from .holders import FREE, both, displaced, has_left, is_unsent, next_of
from .lifetime import later
from .marks import given_up, marked
from .records import LINGER, LOST, Answer, Begin, Claim, Holder, Step, Value
from .started import begun, in_force_for


def begin(op: Begin, claim: Claim, now: int) -> Step:
    message = f"{op.gen}:{op.task_id}"
    if op.give_up:
        unsent = op.unclaimed or is_unsent(claim.holder, op)
        if not unsent or message in claim.arrivals:
            return claim, LOST
        claim = given_up(claim, message, later(now, op.give_up))
    elif message in claim.tombstones and not op.bare:  # nobody gives up the copy of a takeover
        return claim, Answer("dropped", op.task_id, op.gen)
    elif op.arrival:
        arrivals = marked(claim.arrivals, message, later(now, op.arrival))
        claim = replace(claim, arrivals=arrivals)
    if op.parked:
        return wait(op, claim, now)
    if claim.value is not None and claim.value.owner == op.gone:
        claim = replace(claim, value=None)
    if claim.value is not None:
        ended = settle_by_value(op, claim, claim.value, now)
        if ended is not None:
            return ended
    if not op.lease:
        return claim, Answer("free", op.task_id, op.gen)
    started = in_force_for(op, claim, now)
    if started is not None and claim.run_of(started.owner) is None:
        return claim, Answer("reuse", started.owner, started.gen)
    if op.heed:
        claim, waits = wait_until_due(op, claim, now)
        if waits is not None:
            return claim, waits
    holder = claim.holder
    if holder is not None:
        if must_follow(op, holder, now):
            return follow(op, claim, holder, now)
        if holder.owner == op.task_id and op.attempt < holder.attempt and now < holder.until:
            return claim, Answer("dropped", op.task_id, op.gen)
    return begin_run(op, claim, now)


def begin_run(op: Begin, claim: Claim, now: int) -> Step:
    holder, before = claim.holder, claim.holder or FREE
    claim, adopted = adopt(claim, now)
    parts = inherited(op, holder)
    if adopted:
        parts["orphans"] = with_adopted(parts.get("orphans", ()), adopted, op.task_id)
    started = begun(op, claim, now, parts["gen"])
    unique = later(started.at, op.unique) if started is not None and op.unique else 0
    left = has_left(holder, now)
    # A run that has lost its lease, or was taken over, may store its result yet.
    another = left or before.taker != ""
    running = Holder(
        state="running",
        owner=op.task_id,
        run=op.run,
        at=now,
        until=later(now, op.lease),
        herd=max(later(now, op.herd), unique),
        attempt=op.attempt,
        outrun=before.outrun,
        group=op.group,
        bare=op.bare,
        unmarked=op.unmarked and not (op.exclusive or op.bare or op.redelivered or another),
        waiting=both(before.waiting, op.waited),
        **parts,
    )
    answer = Answer(
        "run", "", running.gen, ids=running.orphans, arguments=running.arguments, left=left
    )
    return replace(claim, holder=running, started=started), answer


def follow(op: Begin, claim: Claim, holder: Holder, now: int) -> Step:
    claim = replace(claim, holder=replace(holder, followed=True))
    ends = (holder.until, holder.until if op.exclusive else holder.herd)
    rest = min(end for end in ends if end > now) - now
    return claim, Answer("follow", holder.owner, holder.gen, rest=rest)


def inherited(op: Begin, holder: Holder | None) -> dict[str, Any]:
    """What a run has of who held the claim: generation, the refresh that waits, whom it serves."""
    if holder is None or op.exclusive:
        return {"gen": op.gen or op.run}
    orphans, gen = displaced(holder, op.task_id), op.gen or op.run
    found = {"gen": gen, "followed": holder.followed, "orphans": orphans}
    retries = holder.owner == op.task_id  # what waits, waits for its retries
    if (retries or not op.refresh) and (not op.gen or op.gen != holder.next_gen):
        rest = tuple(one for one in orphans if one != holder.next)
        found.update(gen=holder.gen, orphans=rest, **next_of(holder))
    if retries or holder.state == "queued":
        found["arguments"] = holder.arguments
    elif "next" not in found:  # this is what waited for its end, or is served with it
        found["arguments"] = holder.next_arguments
    return found


def wait(op: Begin, claim: Claim, now: int) -> Step:
    """Have a message that is parked woken, if there is still something that it waits for."""
    value, holder = claim.value, claim.holder
    settled = value is not None and settle_by_value(op, claim, value, now) is not None
    if settled or holder is None or not must_follow(op, holder, now):
        return claim, LOST
    waiting = both(holder.waiting, op.parked)
    claim = replace(claim, holder=replace(holder, followed=True, waiting=waiting))
    return claim, Answer("follow", holder.owner, holder.gen)


def settle_by_value(op: Begin, claim: Claim, value: Value, now: int) -> Step | None:
    """Answer by the run that ended last, if this message is to have its outcome."""
    reuse = Answer("reuse", value.owner, value.gen)
    same = op.gen != "" and op.gen == value.gen
    if value.owner == op.task_id:
        if op.attempt > value.attempt:
            return None  # a retry that the task sent although it returned
        if (same or op.redelivered) and not value.failed:
            if value.bare and not op.bare:
                return replace(claim, value=replace(value, bare=False)), reuse
            kept = replace(value, kept=max(value.kept, later(now, LINGER)))
            return replace(claim, value=kept), Answer("finished", value.owner, value.gen)
    if op.exclusive or runs_already(op, claim, now):
        return None
    later_only = op.refresh or op.starts
    moment = value.began if later_only else value.ended
    # It is asked to run, or to run again: others have called since.
    asked = later_only and claim.holder is not None and claim.holder.owner == op.task_id
    lately = op.lease and op.since and moment > op.since and not asked
    meant = same or lately
    if (now < value.fresh and (meant or not op.refresh)) or (meant and now < value.kept):
        return claim, reuse
    return None


def runs_already(op: Begin, claim: Claim, now: int) -> bool:
    """Whether this is another delivery of what runs now, while others may run and end beside it."""
    holder = claim.holder
    if holder is None or holder.state != "running" or holder.owner != op.task_id:
        return False
    return op.starts and now < holder.until


def must_follow(op: Begin, holder: Holder, now: int) -> bool:
    """Whether this message waits for the run that holds the claim."""
    if now >= holder.until:
        return False
    if holder.state == "queued":
        if holder.line:
            return not op.waited
        if op.heed and now < holder.due:
            return holder.owner != op.task_id
        if holder.owner == op.task_id:
            # A copy made for others waits for its retry; the first message is yet to be served.
            return holder.bare and not op.bare and op.attempt < holder.attempt
        # A retry waits for its countdown: its attempts stay one sequence.  And a message of another
        # generation, a late copy perhaps, leaves the run to those who are asked to make it.
        foreign = op.gen not in ("", holder.gen, holder.next_gen) or op.task_id in holder.orphans
        return holder.attempt > 0 or (foreign and not op.exclusive)
    if holder.owner == op.task_id:
        # A second delivery, unless it is the run itself, or the retry that this run has sent.
        return holder.run not in (op.run, op.after)
    return op.exclusive or now < holder.herd
