"""A call whose message the broker did not take: let go of it, and do what its policy says."""

from __future__ import annotations

from typing import Any

from celery.result import AsyncResult, EagerResult
from celery.utils import uuid
from kombu.exceptions import OperationalError
from msgspec.structs import replace

from .. import signals
from ..broker.publisher import NOT_TAKEN
from ..claims.claimed_run import Run, release_message
from ..claims.decision_log import WHY
from ..claims.protocol import is_claimed, is_for_another, run_instead, start, withdrawal
from ..claims.records import LINGER, Answer, Begin, ClaimCall, Operation, Release
from ..errors import StoreError, StoreUnavailable
from ..policy.model import Plan
from ..telling import OF_CALLS
from ..telling import tell as tell_of
from .eager import failed_result, run_claimed, run_token, run_unclaimed
from .sending import Sending, decided


def send_unshared(sending: Sending) -> AsyncResult | EagerResult:
    """Send a call of which the store knows nothing."""
    task_id = sending.options.get("task_id") or uuid()
    try:
        return decided_unshared(sending, sending.send(task_id=task_id), "published")
    except OperationalError as error:
        tell(sending, task_id, "", error)
        if sending.mode == "raise":
            raise
        sending.log(task_id, "-", "fallback", f"{sending.mode}: {error}")
        if sending.mode == "fail":
            result = fell_back(failed_result(sending, task_id, error), "fallback_failed")
        else:
            result = fell_back(run_unclaimed(sending, task_id), "fallback_eager")
        return decided_unshared(sending, result, "fallback")


def decided_unshared(sending: Sending, result: Any, word: str) -> Any:
    """Return a result that says what became of its call; tell of it, if its task has a policy."""
    if OF_CALLS[word].receivers and sending.caller.plan(sending.task) is not None:
        tell_of(
            OF_CALLS[word],
            sending.task,
            task_id=result.id,
            key="",
            args=sending.args,
            kwargs=sending.kwargs,
            decision=word,
            trace="",
        )
    return decided(result, word)


def tell(sending: Sending, task_id: str, key: str, error: Exception) -> None:
    tell_of(signals.broker_failed, sending.task, task_id=task_id, key=key, exception=error)


def fell_back(result: Any, counted: str) -> Any:
    return decided(result, "fallback", counted)


class Undelivered:
    """A call that has a key, and perhaps a claim, and could not be sent."""

    def __init__(self, sending: Sending, plan: Plan, key: str, claim: ClaimCall) -> None:
        self.sending, self.plan, self.key, self.claim = sending, plan, key, claim
        self.caller = sending.caller
        #: The store has proved silent in this very call: the deadline has no time to ask it again.
        self.store_failed = False

    def fall_back(self, answer: Answer, error: OperationalError) -> AsyncResult | EagerResult:
        """Do what the policy says.  Raises `error` if it says so."""
        own, mode = self.claim.task_id, self.sending.mode
        sent = answer.id if is_for_another(answer) else own
        tell(self.sending, own, self.key, error)
        if answer.word == "refresh":
            mode = "raise"  # the caller has the old result
        if mode == "eager" and not self.plan.exclusive:
            return self.run_here(answer)
        arrived = not self.let_go(answer)
        if arrived and mode != "raise":
            return self.arrived(sent)
        if mode == "fail":
            self.log(own, "fallback", f"it has failed: {error}")
            return fell_back(failed_result(self.sending, own, error), "fallback_failed")
        if not arrived:
            self.mark_failed(answer, error)
        raise error

    def arrived(self, task_id: str) -> AsyncResult:
        self.log(task_id, "published", "the message has arrived, although nobody said so")
        return fell_back(self.sending.result(task_id), "published")

    def abandon(self, answer: Answer, error: BaseException) -> None:
        """Let go of a call that raised before it was sent."""
        if is_claimed(answer) and self.let_go(answer):
            self.mark_failed(answer, error)

    def mark_failed(self, answer: Answer, error: BaseException) -> None:
        """Record that the task will never run, so that nobody waits for it."""
        if is_claimed(answer) and answer.word != "takeover":
            failed_result(self.sending, self.claim.task_id, error)

    def run_here(self, answer: Answer) -> AsyncResult | EagerResult:
        """Run the task in this process, in the place of the message."""
        own = self.claim.task_id
        message = run_instead(
            answer,
            self.claim,
            self.plan,
            run=run_token(),
            give_up=LINGER,
        )
        try:
            self.check_store()
            blind = self.plan.blind
            settled = start(self.caller.store, self.caller.results, self.key, message, blind=blind)
        except StoreError:
            self.owe(answer, message)
            return self.run_unclaimed()
        word, other = settled.answer.word, settled.answer.id
        if word == "lost":
            return self.arrived(own)
        if settled.outcome is not None:
            self.log(other, "cached", WHY["cached"])
            if self.claim.pinned and other != own:
                self.caller.results.pass_on(other, (own,))
                other = own
            return fell_back(self.sending.result(other, settled.outcome.meta), "cached")
        ran = word in ("reuse", "finished")
        if ran or (word == "follow" and not self.claim.pinned and not self.claim.wants_later):
            self.log(other, "joined", WHY["joined"])
            return fell_back(self.sending.result(other), "joined")
        if word == "follow" and self.claim.wants_later:
            # Who joined it is served by the run here; who calls later wants a later one.
            self.leave_place()
        if word != "run":
            return self.run_unclaimed()
        self.log(message.task_id, "fallback", f"it runs here: {NOT_TAKEN}")
        run = Run(
            self.caller.store,
            self.caller.results,
            self.caller.lines,
            self.plan,
            self.key,
            message,
            settled.answer,
        )
        return fell_back(run_claimed(run, self.sending), "fallback_eager")

    def leave_place(self) -> None:
        our = self.caller
        release_message(our.store, our.lines, self.plan, self.key, self.claim.task_id, bare=False)

    def run_unclaimed(self) -> EagerResult:
        self.log(self.claim.task_id, "fallback", f"it runs here: {NOT_TAKEN}")
        return fell_back(run_unclaimed(self.sending, self.claim.task_id), "fallback_eager")

    def let_go(self, answer: Answer) -> bool:
        """Give the message up; False if it has arrived after all, or somebody else has sent it."""
        try:
            self.check_store()
            return self.caller.store.apply(self.key, self.withdrawal(answer)).word == "ok"
        except StoreError:
            self.owe(answer)
            return True

    def check_store(self) -> None:
        if self.store_failed:
            raise StoreUnavailable("the store has not answered in time")

    def owe(self, answer: Answer, begun: Begin | None = None) -> None:
        """Give the message up as soon as the store is back, and the run here, should it hold."""
        # The store may have made the claim, or not, and the message may arrive either way.
        forms = [answer]
        if not is_for_another(answer):
            forms = [replace(answer, word=word) for word in ("claimed", "free")]
        operations = [self.withdrawal(form) for form in forms]
        if begun is not None:
            here = Release(task_id=begun.task_id, run=begun.run, hold=self.claim.hold)
            operations.append(here)
        # Named here, and not by `self`, which has the arguments of the call: this may be kept long.
        store, key = self.caller.direct_store, self.key

        def write() -> None:
            for operation in operations:
                store.apply(key, operation)

        self.caller.owed_to_store().later(
            f"that task {self.claim.task_id} was given up", write, LINGER / 1000
        )

    def withdrawal(self, answer: Answer) -> Operation:
        return withdrawal(answer, self.claim, LINGER)

    def log(self, task_id: str, decision: str, why: str) -> None:
        self.sending.log(task_id, self.key, decision, why)
