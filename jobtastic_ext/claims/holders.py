"""Who holds a claim next, and whom that leaves waiting."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from .lifetime import later
from .records import LINGER, MOST_ORPHANS, MOST_PLACES, Begin, Holder, Release, Value

#: Who holds a claim that is free.
FREE = Holder(state="queued", owner="", gen="", until=0)


def after(holder: Holder, now: int, hold: int, orphans: tuple[str, ...]) -> Holder | None:
    """Who holds the claim when `holder` lets go: the refresh that waits, or who is unserved."""
    if holder.next:
        waits = queued(
            holder.next,
            holder.next_gen,
            now,
            hold,
            due=holder.next_due,
            arguments=holder.next_arguments,
            outrun=holder.outrun,
            orphans=orphans,
        )
        return replace(waits, at=holder.next_at or now)
    return unserved(orphans, holder.gen, now)


def without_dead(holder: Holder, now: int, hold: int) -> Holder:
    """Who holds the claim now: what waited for the end of a run, once that has died.

    It keeps its arguments and is due when it was; and it serves whoever waited for the run.
    """
    if not holder.next or not has_left(holder, now):
        return holder
    waits = after(holder, now, hold, displaced(holder, holder.next))
    return replace(waits or holder, waiting=holder.waiting)


def has_begun(holder: Holder) -> bool:
    """Whether its task has begun: it runs, or is to be retried."""
    return holder.state == "running" or holder.attempt > 0


#: In the token of a run, what comes after the name of its worker.
NAMED = "/"


def worker_of(run: str) -> str:
    """Return the name of the worker that a run's token is of; empty if it says none."""
    return run.partition(NAMED)[0] if NAMED in run else ""


def has_left(holder: Holder | None, now: int) -> bool:
    """Whether it is a run that never ended: its lease is over."""
    return holder is not None and holder.state == "running" and now >= holder.until


def awaits(holder: Holder | None, task_id: str) -> bool:
    """Whether the claim is held for the message of this task."""
    return holder is not None and holder.state == "queued" and holder.owner == task_id


def queued(owner: str, gen: str, now: int, hold: int, due: int = 0, **further: Any) -> Holder:
    """The holder that a message in a queue is, believed to be on its way for `hold`, once due."""
    until = later(max(now, due), hold)
    times: dict[str, Any] = {"until": until, "at": now, "due": due, "looked": due}
    return Holder(state="queued", owner=owner, gen=gen, **times, **further)


def queued_again(holder: Holder, now: int, hold: int, due: int = 0, **changes: Any) -> Holder:
    """The same after its run has ended without an outcome, or its message was lost."""
    again = {"state": "queued", "run": "", "until": later(max(now, due), hold), "at": now}
    return replace(holder, **again, due=due, herd=0, ending=False, **changes)


#: What a holder keeps of the run that waits for its end, where none does.
NO_NEXT: dict[str, Any] = {
    "next": "",
    "next_gen": "",
    "next_at": 0,
    "next_due": 0,
    "next_arguments": "",
}


def next_of(holder: Holder) -> dict[str, Any]:
    return {name: getattr(holder, name) for name in NO_NEXT}


def both(places: str, others: str) -> str:
    """Join places at which messages are parked."""
    if not places or not others:
        return places or others
    return " ".join([*dict.fromkeys(f"{places} {others}".split(" "))][:MOST_PLACES])


def kept_for_line(now: int, hold: int) -> Holder:
    """Keep the claim for whoever is woken, so that nobody passes the line."""
    return queued("", "", now, hold, line=True)


def unserved(ids: tuple[str, ...], gen: str, now: int) -> Holder | None:
    """Remember those who are left without an outcome, as a claim whose time is over.

    Whoever runs next serves them.  Their ids are not sent again: some may be running yet.
    """
    if not ids:
        return None
    return Holder(state="queued", owner=ids[0], gen=gen, until=now, expires=now, orphans=ids[1:])


def remembered(holder: Holder | None, value: Value | None, now: int, keep: int) -> int:
    """Until when the end of this run is remembered, for the sake of messages that come later.

    At least as long as that of the run before, of which messages may be on their way yet.
    """
    until = value.kept if value is not None else 0
    if holder is None or not (holder.followed or now < holder.outrun):
        return max(until, later(now, keep))
    return max(until, later(max(now, holder.outrun), max(keep, LINGER)))


def displaced(holder: Holder | None, task_id: str) -> tuple[str, ...]:
    """Everybody who loses the claim to `task_id`."""
    if holder is None:
        return ()
    ids = (*holder.orphans, holder.owner, holder.next)
    kept = tuple(dict.fromkeys(one for one in ids if one not in ("", task_id)))
    return kept[-MOST_ORPHANS:]


def is_granted(holder: Holder | None) -> bool:
    """Whether the claim is held for a message, and not only for those whom nobody serves."""
    return holder is not None and holder.state == "queued" and holder.at > 0


def is_unsent(holder: Holder | None, op: Begin | Release) -> bool:
    """Whether the claim is as the caller left it: no worker has its message, no other sent it."""
    if holder is None or holder.next == op.task_id:
        return holder is not None
    mine = awaits(holder, op.task_id) and holder.gen == op.gen
    return mine and not holder.taker and not holder.attempt


def is_run(holder: Holder | None, task_id: str, run: str) -> bool:
    """Whether the claim is held by this run (of a worker's any child, if `run` ends in a dot)."""
    if holder is None or holder.state != "running" or holder.owner != task_id:
        return False
    return holder.run == run or (run.endswith(".") and holder.run.startswith(run))


def shown(holder: Holder | None) -> Holder | None:
    """The same for people to read: without the arguments of a call."""
    if holder is None:
        return None
    kept = ("arguments", "next_arguments")
    return replace(holder, **{name: "(kept)" for name in kept if getattr(holder, name)})
