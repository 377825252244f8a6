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

from .holders import after, awaits, both, displaced, kept_for_line, queued, queued_again, unserved
from .lifetime import later, prune
from .records import (
    LINGER,
    MOMENT,
    MOST_MARKS,
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
    Value,
    Word,
)

#: The claim on a key that nobody has called, or whose time is over.
EMPTY = Claim()

OK, LOST = Answer("ok"), Answer("lost")

Outcome = tuple[Claim, Answer]


def step(operation: Operation, claim: Claim, now: int) -> Outcome:
    """Carry out `operation` at store time `now`; return the new claim and the answer."""
    changed, answer = STEPS[type(operation)](operation, prune(claim, now), now)
    return changed, replace(answer, at=now)


def is_held(holder: Holder | None, now: int) -> bool:
    """Whether identical calls wait for this holder."""
    if holder is None or now >= holder.until:
        return False
    return holder.state == "queued" or now < holder.herd


def is_run(holder: Holder | None, task_id: str, run: str) -> bool:
    """Whether the claim is held by this run (of a worker's any child, if `run` ends in a dot)."""
    if holder is None or holder.state != "running" or holder.owner != task_id:
        return False
    return holder.run == run or (run.endswith(".") and holder.run.startswith(run))


def claim_call(op: ClaimCall, claim: Claim, now: int) -> Outcome:
    waiting = claim.holder.waiting if claim.holder is not None else ""
    if claim.holder is not None and claim.holder.line:
        claim = replace(claim, holder=None)  # of a task that took turns before
    claim, orphans = without_gone(op, claim, now)
    value, holder = claim.value, claim.holder
    refreshes = False
    if value is not None:
        if now < value.fresh:
            return claim, Answer("cached", value.owner, value.gen)
        if now < value.stale and not op.pinned:
            if is_held(holder, now):
                return claim, Answer("stale", value.owner, value.gen)
            refreshes = True
        elif shares_group(op, value, now):
            return claim, Answer("joined", value.owner, value.gen)
    if not op.hold and refreshes and value is not None:
        return claim, Answer("refresh", value.owner, op.gen)
    if not op.hold:
        return claim, Answer("free", value.owner if value else op.task_id, op.gen)
    if holder is not None and not refreshes:
        held = settle_by_holder(op, claim, holder, now)
        if held is not None:
            return held
    fresh = queued(
        op.task_id,
        op.gen,
        now,
        op.hold,
        expires=later(now, op.expires) if op.expires else 0,
        group=op.group,
        orphans=orphans,
        waiting=waiting,
    )
    claim = replace(claim, holder=fresh)
    if refreshes and value is not None:
        return claim, Answer("refresh", value.owner, op.gen)
    return claim, Answer("claimed", op.task_id, op.gen)


def without_gone(op: ClaimCall, claim: Claim, now: int) -> tuple[Claim, tuple[str, ...]]:
    """Leave out what the call is not to be served with; return who would lose the claim to it."""
    value, holder = claim.value, claim.holder
    if value is not None and op.refresh:
        value = replace(value, fresh=0, stale=0)  # for those who wait for it, not for this call
    if value is not None and value.owner in (op.gone, op.task_id):
        value = None  # unreadable, or sent anew under the same id
    orphans = displaced(holder, op.task_id)
    if holder is not None and holder.owner == op.gone and is_over(holder, now):
        if holder.followed:
            # It ended some time ago, so only its own generation may have it.
            value = Value(
                owner=holder.owner, gen=holder.gen, bare=holder.bare, kept=later(now, LINGER)
            )
        orphans = holder.orphans
        holder = after(holder, now, op.hold, orphans) if holder.next else None
    return replace(claim, holder=holder, value=value), orphans


def settle_by_holder(op: ClaimCall, claim: Claim, holder: Holder, now: int) -> Outcome | None:
    """Answer by the run or the message that holds the claim; None if this call has it now."""
    if may_join(op, holder, now):
        return join(op, claim, holder, now)
    over = now >= holder.until and (holder.state == "queued" or not op.wants_later)
    followed = replace(claim, holder=replace(holder, followed=True))
    if over and op.pinned:
        # Published under its own id all the same; the worker takes over.
        return followed, Answer("joined", holder.owner, holder.gen)
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


def is_over(holder: Holder, now: int) -> bool:
    """Whether the run may have ended without the claim knowing."""
    return holder.ending or is_unmarked(holder) or holder.state == "queued" or now >= holder.until


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


def join(op: ClaimCall, claim: Claim, holder: Holder, now: int) -> Outcome:
    foreign = holder.owner != op.task_id
    if op.wants_later and foreign and holder.state == "running" and not holder.next:
        waiting = replace(holder, next=op.task_id, next_gen=op.gen)
        word: Word = "claimed" if op.refresh else "buffered"
        return replace(claim, holder=waiting), Answer(word, op.task_id, op.gen)
    answer = Answer("joined", holder.owner, holder.gen)
    if holder.next and foreign:
        answer = Answer("joined", holder.next, holder.next_gen)
    elif foreign and not op.pinned and holder.ending:
        answer = replace(answer, word="ending")
    elif foreign and not op.pinned and is_unmarked(holder):
        answer = replace(answer, word="unmarked")
    elif foreign and not op.pinned and is_overdue(holder, now):
        claim = replace(claim, holder=replace(holder, looked=now))
        return claim, replace(answer, word="overdue")
    if op.pinned and not holder.followed:
        claim = replace(claim, holder=replace(holder, followed=True))
    return claim, answer


def is_overdue(holder: Holder, now: int) -> bool:
    """Whether its task may have ended without the claim knowing, although nobody has begun it.

    One caller looks each moment: what had ended a moment ago is found, and to join stays cheap.
    """
    since = max(holder.at, holder.looked)
    return holder.state == "queued" and (holder.taken or now - since >= MOMENT)


def take_over(op: ClaimCall, claim: Claim, holder: Holder, now: int) -> Outcome:
    """Publish under the dead run's id, or a lost message's, so that all who joined it are served.

    A refresh that waited for it, and may be lost, is served by the same run: it begins later.
    A message that only waits in a long queue gets a copy after twice the time of the last one.
    """
    again = holder.state == "queued" and holder.taken
    length = min(2 * (holder.until - holder.at), LINGER) if again else 0
    taken = queued_again(
        holder,
        now,
        max(op.hold, length),
        attempt=0,
        taken=True,
        followed=True,
        next="",
        next_gen="",
        orphans=displaced(holder, holder.owner),
    )
    return replace(claim, holder=taken), Answer("takeover", holder.owner, holder.gen)


def begin(op: Begin, claim: Claim, now: int) -> Outcome:
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
    holder = claim.holder
    if holder is not None:
        if must_follow(op, holder, now):
            claim = replace(claim, holder=replace(holder, followed=True))
            ends = (holder.until, holder.until if op.exclusive else holder.herd)
            rest = min(end for end in ends if end > now) - now
            return claim, Answer("follow", holder.owner, holder.gen, rest=rest)
        if holder.owner == op.task_id and op.attempt < holder.attempt and now < holder.until:
            return claim, Answer("dropped", op.task_id, op.gen)
    running = Holder(
        state="running",
        owner=op.task_id,
        run=op.run,
        at=now,
        until=later(now, op.lease),
        herd=later(now, op.herd),
        attempt=op.attempt,
        group=op.group,
        bare=op.bare,
        unmarked=op.unmarked and not op.exclusive,
        waiting=both(holder.waiting if holder is not None else "", op.waited),
        **inherited(op, holder),
    )
    return replace(claim, holder=running), Answer("run", "", running.gen, ids=running.orphans)


def inherited(op: Begin, holder: Holder | None) -> dict[str, Any]:
    """What a run has of who held the claim: generation, the refresh that waits, whom it serves."""
    if holder is None or op.exclusive:
        return {"gen": op.gen or op.run}
    orphans, gen = displaced(holder, op.task_id), op.gen or op.run
    found = {"gen": gen, "followed": holder.followed, "orphans": orphans}
    retries = holder.owner == op.task_id  # what waits, waits for its retries
    if (retries or not op.refresh) and (not op.gen or op.gen != holder.next_gen):
        rest = tuple(one for one in orphans if one != holder.next)
        found.update(gen=holder.gen, next=holder.next, next_gen=holder.next_gen, orphans=rest)
    return found


def wait(op: Begin, claim: Claim, now: int) -> Outcome:
    """Have a message that is parked woken, if there is still something that it waits for."""
    value, holder = claim.value, claim.holder
    settled = value is not None and settle_by_value(op, claim, value, now) is not None
    if settled or holder is None or not must_follow(op, holder, now):
        return claim, LOST
    waiting = both(holder.waiting, op.parked)
    claim = replace(claim, holder=replace(holder, followed=True, waiting=waiting))
    return claim, Answer("follow", holder.owner, holder.gen)


def is_unsent(holder: Holder | None, op: Begin | Release) -> bool:
    """Whether the claim is as the caller left it: no worker has its message, no other sent it."""
    if holder is None or holder.next == op.task_id:
        return holder is not None
    mine = awaits(holder, op.task_id) and holder.gen == op.gen
    return mine and not holder.taken and not holder.attempt


def given_up(claim: Claim, message: str, until: int) -> Claim:
    return replace(claim, tombstones=marked(claim.tombstones, message, until))


def marked(marks: dict[str, int], message: str, until: int) -> dict[str, int]:
    """Remember what became of a message, and of so many others at most."""
    marks = {**marks, message: until}
    if len(marks) > MOST_MARKS:
        del marks[min(marks, key=lambda name: (marks[name], name))]
    return marks


def settle_by_value(op: Begin, claim: Claim, value: Value, now: int) -> Outcome | None:
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
    if op.exclusive:
        return None
    moment = value.began if op.refresh else value.ended
    is_next = op.refresh and awaits(claim.holder, op.task_id)
    lately = op.lease and op.since and moment > op.since and not is_next
    meant = same or lately
    if (now < value.fresh and (meant or not op.refresh)) or (meant and now < value.kept):
        return claim, reuse
    return None


def must_follow(op: Begin, holder: Holder, now: int) -> bool:
    """Whether this message waits for the run that holds the claim."""
    if now >= holder.until:
        return False
    if holder.state == "queued":
        if holder.line:
            return not op.waited
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


def ending(op: Ending, claim: Claim, now: int) -> Outcome:
    holder = claim.holder
    if holder is None or not is_run(holder, op.task_id, op.run):
        return claim, LOST
    return replace(claim, holder=replace(holder, ending=True)), replace(OK, ids=holder.orphans)


def finish(op: Finish, claim: Claim, now: int) -> Outcome:
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
            kept=later(now, max(op.keep, LINGER) if followed else op.keep),
        )
    claim = replace(claim, value=value)
    if held is None:
        return claim, OK
    rest = after(held, now, op.hold, ())
    if rest is None and op.line and held.waiting:
        rest = kept_for_line(now, op.hold)
    return replace(claim, holder=rest), replace(OK, ids=held.orphans, waiting=held.waiting)


def release(op: Release, claim: Claim, now: int) -> Outcome:
    holder, value = claim.holder, claim.value
    message = f"{op.gen}:{op.task_id}"
    if op.unclaimed:
        # It runs, or another caller has sent it again, by which the mark would be meant as well.
        mine = holder is not None and holder.owner == op.task_id
        runs = mine and holder is not None and (holder.state == "running" or holder.taken)
        has_run = value is not None and (value.owner, value.gen) == (op.task_id, op.gen)
        if runs or has_run or message in claim.arrivals:
            return claim, LOST
        return given_up(claim, message, later(now, op.give_up)), OK
    if holder is None or (op.give_up and not is_unsent(holder, op)):
        return claim, LOST
    waiting = holder.waiting
    if op.task_id and holder.next == op.task_id and not op.run:
        rest: Holder | None = replace(holder, next="", next_gen="")
        gen, waiting = holder.next_gen, ""
    elif holder.owner == op.task_id and holder.state == "queued" and not op.run:
        if holder.taken and not op.bare:
            return claim, LOST  # another caller has sent it again, and waits for that
        rest, gen = after(holder, now, op.hold, holder.orphans), holder.gen
    elif is_run(holder, op.task_id, op.run):
        orphans = displaced(holder, holder.next) if op.unserved else holder.orphans
        rest, gen = after(holder, now, op.hold, orphans), holder.gen
        if rest is None and op.line and waiting:
            rest = kept_for_line(now, op.hold)
    else:
        return claim, LOST
    claim = replace(claim, holder=rest)
    if op.give_up:
        claim = given_up(claim, f"{gen}:{op.task_id}", later(now, op.give_up))
    return claim, replace(OK, waiting=waiting)


def lapse(op: Lapse, claim: Claim, now: int) -> Outcome:
    holder = claim.holder
    if holder is None or not holder.taken or (holder.owner, holder.at) != (op.task_id, op.at):
        return claim, LOST  # perhaps another caller has taken it over since
    return replace(claim, holder=replace(holder, until=now)), OK


def requeue(op: Requeue, claim: Claim, now: int) -> Outcome:
    holder = claim.holder
    if holder is None or not is_run(holder, op.task_id, op.run):
        return claim, LOST
    return replace(claim, holder=queued_again(holder, now, op.hold, attempt=op.attempt)), OK


def renew(op: Renew, claim: Claim, now: int) -> Outcome:
    holder = claim.holder
    if holder is None or not is_run(holder, op.task_id, op.run):
        return claim, LOST
    claim = replace(claim, holder=replace(holder, until=later(now, op.lease)))
    return claim, Answer("ok", holder.run)


def forget(op: Forget, claim: Claim, now: int) -> Outcome:
    known = claim.holder is not None or claim.value is not None
    rest, waiting = None, ""
    if claim.holder is not None:
        # Should it be dead, those who wait for it are served by the next run.
        rest = unserved(displaced(claim.holder, ""), claim.holder.gen, now)
        waiting = claim.holder.waiting
    return replace(claim, holder=rest, value=None), replace(OK if known else LOST, waiting=waiting)


STEPS: dict[type, Callable[[Any, Claim, int], Outcome]] = {
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
