"""The caller's and the worker's side of the claim protocol, over any store and any result backend.

Nothing here knows Celery: the store and the result backend come in from outside, so that every
interleaving can be driven without a broker.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from msgspec import Struct
from msgspec.structs import replace

from ..errors import ResultsUnavailable
from .holders import awaits
from .records import LINGER, Answer, Begin, Claim, ClaimCall, Lapse, Release, Terms
from .store import Store

#: Milliseconds after its call when a message looks whether it has run: before that is forgotten.
OLD = LINGER // 2

#: How often a call is settled anew because a result proved to be gone, or final already.
ATTEMPTS = 5


class Outcome(Struct, frozen=True):
    """How a task ended, read from the result backend."""

    #: It is a value, or an exception that can be raised again; not, say, a revoked task.
    shareable: bool
    failed: bool
    #: The return value, or the exception of a failure.
    value: Any
    #: What the backend returned, for an `AsyncResult` that need not read it again.
    meta: Any = None


class Results(Protocol):
    """The part of a result backend that the protocol needs."""

    def outcome(self, task_id: str) -> Outcome | None:
        """Return how the task ended; None while it has not, or if nobody knows any more.

        Raises `ResultsUnavailable`.
        """

    def decoded(self, task_id: str, stored: bytes) -> Outcome | None:
        """Return what `outcome` would, from what the store has seen.  Raises the same."""

    def pass_on(self, task_id: str, ids: Sequence[str]) -> None:
        """Store the outcome of a task under other ids.  Raises `ResultsUnavailable`."""

    def keep(self, task_id: str, seconds: float) -> None:
        """Let a stored result live so long, if it would not.  Raises `ResultsUnavailable`."""


class Settled(Struct, frozen=True):
    """What is to be done with a call or a message, and the outcome that it reuses, if any."""

    answer: Answer
    outcome: Outcome | None = None


def ask(
    store: Store,
    results: Results,
    key: str,
    call: ClaimCall,
    is_cached: Callable[[Outcome], bool] = lambda outcome: False,
    blind: bool = False,
) -> Settled:
    """Settle a call at the caller: what the store answers, with a result that is really there.

    A pinned call is published whatever the answer, so its result is left to the worker.  A `blind`
    one has no result that anybody could read.
    `is_cached` tells whether the policy keeps such an outcome for later calls.
    """
    for _ in range(ATTEMPTS):
        answer = store.apply(key, call)
        if call.pinned or answer.word not in LOOK:
            return Settled(answer)
        if blind:
            return Settled(joined(looked(store, key, call, answer)))
        try:
            if answer.seen is None:
                outcome = results.outcome(answer.id)
            else:
                outcome = results.decoded(answer.id, answer.seen)
        except ResultsUnavailable:
            # The caller reads it when the backend is back.
            return Settled(joined(looked(store, key, call, answer)))
        if answer.word in ("started", "ended"):
            # One that is over, and has no result any more, would never be ready.
            unknown, well = outcome is None, outcome is not None and is_good(outcome)
            if well or (unknown and answer.word == "started"):
                return Settled(joined(answer))
        elif answer.word in ("takeover", "ending", "unmarked", "overdue"):
            # Nobody waits for a result that is final: to send its id again would show the old one.
            # A failure may be another's: of a child that had sent its retry or a caller's.
            if outcome is None or (answer.word == "unmarked" and outcome.failed):
                return Settled(joined(looked(store, key, call, answer)))
            if answer.word in ("ending", "unmarked") and outcome.shareable and is_cached(outcome):
                return Settled(replace(answer, word="cached"), outcome)
        elif outcome is not None and outcome.shareable:
            return Settled(answer, outcome)
        elif answer.word == "refresh":  # the claim is ours, only the old result is gone
            return Settled(Answer("claimed", call.task_id, call.gen, answer.at))
        readable = outcome is not None and outcome.shareable
        well = outcome is not None and is_good(outcome)
        call = replace(call, gone=answer.id, readable=readable, well=well)
    return Settled(Answer("free", call.task_id, call.gen))


def is_good(outcome: Outcome) -> bool:
    return outcome.shareable and not outcome.failed


#: Answers to one who joins, and looks.
JOINING = ("ending", "unmarked", "started", "ended", "overdue")

#: Answers that depend on a result.
LOOK = ("cached", "stale", "refresh", "takeover", *JOINING)


def looked(store: Store, key: str, call: ClaimCall, answer: Answer) -> Answer:
    """Ask again, having looked: to join a retry that goes on will not do for every call."""
    asks = answer.word == "overdue" and call.wants_later
    return store.apply(key, call) if asks else answer


def joined(answer: Answer) -> Answer:
    return replace(answer, word="joined") if answer.word in JOINING else answer


def start(
    store: Store,
    results: Results,
    key: str,
    message: Begin,
    *,
    is_copy: bool = False,
    blind: bool = False,
) -> Settled:
    """Settle a message at the worker, before its task runs; `blind` as for `ask`.

    `is_copy` is for a message that was delivered again or sent again for others, or has waited for
    a run of its own id.
    """
    if not blind and (is_copy or is_old(store, key, message)):
        settled = start_copy(store, results, key, message)
        if settled is not None:
            return settled
    for _ in range(ATTEMPTS):
        answer = store.apply(key, message)
        failed = blind and answer.word == "reuse" and has_failed(store, key, answer, message)
        if (blind and not failed) or answer.word not in ("reuse", "finished"):
            return Settled(answer)
        if failed:  # nobody can be told so, and what follows in a canvas is not to go on
            message = replace(message, gone=answer.id)
            continue
        try:
            outcome = results.outcome(answer.id)
        except ResultsUnavailable:
            break
        if outcome is not None and outcome.shareable:
            return Settled(answer, outcome)
        message = replace(message, gone=answer.id)
    return Settled(Answer("free", message.task_id, message.gen))


def is_old(store: Store, key: str, message: Begin) -> bool:
    """Whether it may have run so long ago (a copy of it was sent meanwhile) that nobody knows.

    Of a retry the id may have failed: its child was killed after it had sent the retry.
    """
    if message.attempt or not message.since or time.time() * 1000 - message.since < OLD:
        return False
    return not awaits((store.read(key) or Claim()).holder, message.task_id)


def has_failed(store: Store, key: str, answer: Answer, message: Begin) -> bool:
    """Whether another task's run, which this message is to share, has failed."""
    value = (store.read(key) or Claim()).value
    owned = value is not None and value.owner == answer.id != message.task_id
    return owned and value is not None and value.failed


def start_copy(store: Store, results: Results, key: str, message: Begin) -> Settled | None:
    """Settle a message whose id has a final result; None if it has none.

    It is dropped only if the run was made by such a message.  A run made for others (a copy, or
    another id) has called none of the callbacks of this one.
    """
    try:
        outcome = results.outcome(message.task_id)
    except ResultsUnavailable:
        return None
    if outcome is None or (message.bare and not outcome.shareable):
        return None  # what was sent again for others is not revoked with the first message
    answer = store.apply(key, replace(message, lease=0))
    done = answer.word == "finished" or message.bare or message.exclusive
    if done or not outcome.shareable:
        return Settled(replace(answer, word="finished", id=message.task_id))
    return Settled(replace(answer, word="reuse", id=message.task_id), outcome)


def withdrawal(answer: Answer, call: ClaimCall, give_up: int) -> Lapse | Release:
    """Return what lets go of a call whose message could not be sent.

    A message that may still arrive after all is dropped by the worker for `give_up` milliseconds.
    What was sent for another is left for the next caller: the first message may yet be on its way.
    """
    if is_for_another(answer):
        return Lapse(task_id=answer.id, gen=call.gen)
    return Release(
        task_id=call.task_id,
        hold=call.hold,
        gen=answer.gen,
        give_up=give_up,
        unclaimed=not is_claimed(answer),
    )


def is_for_another(answer: Answer) -> bool:
    """Whether the message goes out under the id of a call that was made before."""
    return answer.word in ("takeover", "hastened")


def is_claimed(answer: Answer) -> bool:
    """Whether the call holds the claim, so that others may wait for its id."""
    return answer.word in ("claimed", "buffered", "refresh", "takeover")


def run_instead(answer: Answer, call: ClaimCall, terms: Terms, *, run: str, give_up: int) -> Begin:
    """Return what a caller asks, as a worker would, before it runs what could not be sent."""
    bare = answer.word == "takeover"
    return Begin(
        task_id=answer.id if bare else call.task_id,
        run=run,
        lease=terms.lease if terms.herd else 0,
        herd=terms.herd,
        gen=answer.gen,
        group=call.group,
        starts=terms.starts,
        unique=terms.unique,
        refresh=call.wants_later,
        since=answer.at,
        bare=bare,
        give_up=0 if bare else give_up,
        unclaimed=not is_claimed(answer),
    )
