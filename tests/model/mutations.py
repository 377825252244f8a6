"""Known bugs of such libraries, planted one at a time.

Each changes the code that runs (not a copy of it) and is taken out again by `planted`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

from msgspec.structs import replace

from jobtastic_ext.caller import calls
from jobtastic_ext.caller.fallback import Undelivered
from jobtastic_ext.claims import (
    beginning,
    beside,
    calling,
    claimed_run,
    debounce,
    protocol,
    records,
    rules,
)
from jobtastic_ext.claims.records import (
    Answer,
    Begin,
    Claim,
    ClaimCall,
    Ending,
    Finish,
    Forget,
    Holder,
    Lapse,
    Release,
    Renew,
)
from jobtastic_ext.worker import delivery
from jobtastic_ext.worker.identity import worker_token
from jobtastic_ext.worker.lease_keeper import LeaseKeeper

from .actors import ACTORS
from .scenarios import CASTS, with_faults
from .world import Budget, Model, Scenario, World

Patches = list[Any]


def rule(operation: type, changed: Callable[[Any, Claim, int], Any]) -> Patches:
    return [mock.patch.dict(rules.STEPS, {operation: changed})]


def no_second_check() -> Patches:
    """Jobtastic: look whether somebody has the lock, then take it, without looking again."""
    real_apply = Model.apply

    def apply(
        self: Model, world: World, name: str, operation: Any, slot: int | None
    ) -> tuple[World, Answer]:
        if isinstance(operation, ClaimCall) and operation.group == "blind":
            fresh = replace(operation, group="")
            holder = Holder(
                state="queued", owner=fresh.task_id, gen=fresh.gen, until=world.now + fresh.hold
            )
            number = self.claims.number(Claim(holder=holder))
            return replace(world, claim=number), Answer("claimed", fresh.task_id, fresh.gen)
        if isinstance(operation, ClaimCall):
            # Only a look: nothing is taken yet.
            _, answer = real_apply(self, world, name, operation, slot)
            return world, answer
        return real_apply(self, world, name, operation, slot)

    real_ask = protocol.ask

    def ask(store: Any, results: Any, key: str, call: Any, *_: Any) -> Any:
        settled = real_ask(store, results, key, call)
        if settled.answer.word == "claimed":
            store.apply(key, replace(call, group="blind"))
        return settled

    return [mock.patch.object(Model, "apply", apply), mock.patch.object(calls, "ask", ask)]


def release_by_key() -> Patches:
    """celery-once, celery-singleton: free the lock, whoever has it."""
    return rule(Release, lambda op, claim, now: (replace(claim, holder=None), records.OK))


def finish_by_key() -> Patches:
    real = rules.finish

    def finish(op: Finish, claim: Claim, now: int) -> Any:
        holder = claim.holder
        if holder is not None and holder.state == "running":
            op = replace(op, run=holder.run, task_id=holder.owner)
        return real(op, claim, now)

    return rule(Finish, finish)


def renew_by_key() -> Patches:
    def renew(op: Renew, claim: Claim, now: int) -> Any:
        if claim.holder is None:
            return claim, records.LOST
        holder = replace(claim.holder, until=now + op.lease)
        return replace(claim, holder=holder), Answer("ok", op.run)

    return rule(Renew, renew)


def done_before_the_result_is_stored() -> Patches:
    real = claimed_run.Run.end

    def end(self: Any) -> None:
        real(self)
        self.finish(failed=False)

    return [mock.patch.object(claimed_run.Run, "end", end)]


def no_mark_of_the_ending() -> Patches:
    return rule(Ending, lambda op, claim, now: (claim, records.OK))


def a_retry_joins_itself() -> Patches:
    """celery-singleton: a retry is deduplicated like any other call, and never sent."""
    real = calls.apply_async

    def apply_async(
        runtime: Any, publish: Any, task: Any, args: Any, kwargs: Any, options: Any
    ) -> Any:
        if options.pop("retries", 0):
            options.pop("task_id", None)
        return real(runtime, publish, task, args, kwargs, options)

    return [mock.patch.object(calls, "apply_async", apply_async)]


def takeover_without_comparing() -> Patches:
    """Whoever comes takes the claim, dead or not."""
    return [mock.patch.object(beginning, "must_follow", return_value=False)]


def a_second_delivery_runs() -> Patches:
    real = beginning.must_follow

    def must_follow(op: Begin, holder: Holder, now: int) -> bool:
        same = holder.state == "running" and holder.owner == op.task_id
        return not same and real(op, holder, now)

    return [mock.patch.object(beginning, "must_follow", must_follow)]


def a_lease_never_ends() -> Patches:
    real = beginning.must_follow

    def must_follow(op: Begin, holder: Holder, now: int) -> bool:
        return real(op, holder, min(now, holder.until - 1))

    def is_held(holder: Holder | None, now: int) -> bool:
        return holder is not None

    return [
        mock.patch.object(beginning, "must_follow", must_follow),
        mock.patch.object(calling, "is_held", is_held),
    ]


def no_takeover() -> Patches:
    """After a death the next call runs, and those who had joined wait for ever."""

    def take_over(op: ClaimCall, claim: Claim, holder: Holder, now: int) -> Any:
        fresh = Holder(state="queued", owner=op.task_id, gen=op.gen, until=now + op.hold)
        return replace(claim, holder=fresh), Answer("claimed", op.task_id, op.gen)

    return [mock.patch.object(calling, "take_over", take_over)]


def a_message_that_was_given_up_runs() -> Patches:
    real = rules.release

    def release(op: Release, claim: Claim, now: int) -> Any:
        changed, answer = real(op, claim, now)
        return replace(changed, tombstones={}), answer

    return rule(Release, release)


def nobody_says_that_it_could_not_be_sent() -> Patches:
    return [mock.patch.object(Undelivered, "mark_failed", return_value=None)]


def no_withdrawal() -> Patches:
    return [mock.patch.object(Undelivered, "let_go", return_value=True)]


def a_run_at_its_caller_that_the_store_did_not_confirm_is_joined_for_ever() -> Patches:
    real = Undelivered.owe
    return [mock.patch.object(Undelivered, "owe", lambda self, answer, _=None: real(self, answer))]


def who_took_a_message_over_is_given_an_id_that_was_never_sent() -> Patches:
    real = Undelivered.arrived

    def arrived(self: Undelivered, _: str) -> Any:
        return real(self, self.claim.task_id)

    return [mock.patch.object(Undelivered, "arrived", arrived)]


def a_late_lapse() -> Patches:
    def lapse(op: Lapse, claim: Claim, now: int) -> Any:
        holder = claim.holder
        if holder is None or holder.owner != op.task_id or holder.state != "queued":
            return claim, records.LOST
        return replace(claim, holder=replace(holder, until=now)), records.OK

    return rule(Lapse, lapse)


def the_first_message_frees_the_takeover() -> Patches:
    real = rules.release

    def release(op: Release, claim: Claim, now: int) -> Any:
        return real(replace(op, bare=True), claim, now)

    return rule(Release, release)


def forget_forgets_those_who_wait() -> Patches:
    return rule(
        Forget, lambda op, claim, now: (replace(claim, holder=None, value=None), records.OK)
    )


def what_did_not_begin_stays_joinable() -> Patches:
    """A run that the store did not hear of leaves its queued claim behind."""
    return [mock.patch.object(claimed_run.Run, "_release_queued", return_value=None)]


def orphans_are_not_served() -> Patches:
    return [mock.patch.object(claimed_run.Run, "pass_on", return_value=None)]


def a_dead_child_keeps_its_claim_for_ever() -> Patches:
    real_begin = beginning.begin

    def begin(op: Begin, claim: Claim, now: int) -> Any:
        changed, answer = real_begin(op, claim, now)
        if answer.word == "run" and changed.holder is not None:
            changed = replace(changed, holder=replace(changed.holder, until=records.FOREVER))
        return changed, answer

    def renew(op: Renew, claim: Claim, now: int) -> Any:
        return claim, records.LOST

    return [mock.patch.dict(rules.STEPS, {Begin: begin, Renew: renew})]


def a_dead_child_frees_what_any_child_of_its_worker_runs() -> Patches:
    """It is told late, and the retry that the child had sent runs by then."""
    real = LeaseKeeper._lease_of

    def lease_of(*args: Any) -> Any:
        lease = real(*args)
        if lease is not None:
            lease.child = worker_token()
        return lease

    return [mock.patch.object(LeaseKeeper, "_lease_of", lease_of)]


def who_could_not_send_gives_up_what_another_has_hastened() -> Patches:
    real = calling.claim_call

    def claim_call(op: ClaimCall, claim: Claim, now: int) -> Any:
        claim, answer = real(op, claim, now)
        if answer.word == "hastened" and claim.holder is not None:
            claim = replace(claim, holder=replace(claim.holder, taker=""))
        return claim, answer

    return rule(ClaimCall, claim_call)


def nobody_looks_whether_a_message_has_ended() -> Patches:
    return [mock.patch.object(calling, "is_overdue", return_value=False)]


def a_lost_message_is_waited_for_as_long_as_a_run() -> Patches:
    real = calling.claim_call

    def claim_call(op: ClaimCall, claim: Claim, now: int) -> Any:
        return real(replace(op, hold=20 * op.hold), claim, now)

    return rule(ClaimCall, claim_call)


def nobody_is_told_that_somebody_waits() -> Patches:
    """A message is parked, and the claim does not know."""
    return [mock.patch.object(delivery.Message, "look_again", return_value=None)]


def the_mark_is_made_before_there_is_anybody_to_wake() -> Patches:
    """Mark, then park: an end between the two wakes nobody."""
    park = delivery.Message.park

    def too_late(self: Any, header: Any, answer: Answer) -> str:
        marked = replace(self.opening(), parked="line")
        self.deliveries.store.apply(self.key, marked)
        return park(self, header, answer)

    return [
        mock.patch.object(delivery.Message, "park", too_late),
        mock.patch.object(delivery.Message, "look_again", return_value=None),
    ]


def the_end_of_a_run_wakes_nobody() -> Patches:
    return [mock.patch.object(claimed_run, "wake", return_value=None)]


def who_takes_over_forgets_who_waits() -> Patches:
    return [mock.patch.object(beginning, "both", lambda places, others: others)]


def nobody_who_waits_looks() -> Patches:
    return [mock.patch.object(Model, "look", lambda self, world: world)]


def the_claim_is_kept_for_a_line_that_has_ended() -> Patches:
    def wake(store: Any, waits: Any, terms: Any, key: str, places: str) -> None:
        if places:
            waits.wake(key, places, terms.exclusive)

    return [mock.patch.object(claimed_run, "wake", wake)]


def who_was_woken_waits_for_the_line() -> Patches:
    real = beginning.must_follow

    def must_follow(op: Begin, holder: Holder, now: int) -> bool:
        return real(replace(op, waited=""), holder, now)

    return [mock.patch.object(beginning, "must_follow", must_follow)]


def a_message_that_was_given_up_stops_the_line() -> Patches:
    return [mock.patch.object(delivery.Message, "let_pass", return_value=None)]


def a_run_that_holds_nobody_up_is_not_remembered() -> Patches:
    """celery-once, celery-singleton: the lock is gone, and a second delivery runs as well."""
    return [mock.patch.object(rules, "stand_beside", lambda claim: replace(claim, holder=None))]


def who_depended_on_a_dead_run_is_forgotten() -> Patches:
    real = beginning.adopt

    def adopt(claim: Claim, now: int) -> Any:
        return real(claim, now)[0], ()

    return [mock.patch.object(beginning, "adopt", adopt)]


def a_run_answers_calls_that_were_made_after_it_began() -> Patches:
    real = beginning.settle_by_value

    def settle(op: Begin, claim: Claim, value: Any, now: int) -> Any:
        return real(replace(op, starts=False), claim, value, now)

    return [mock.patch.object(beginning, "settle_by_value", settle)]


def it_holds_others_up_all_the_same() -> Patches:
    return [mock.patch.object(rules, "stand_beside", lambda claim: claim)]


def a_failure_does_not_free_its_start() -> Patches:
    return [
        mock.patch.object(rules, "freed", lambda claim, task_id: claim),
        # Else whoever is answered by it sees the failure, and frees it.
        mock.patch.object(protocol, "is_good", lambda outcome: outcome.shareable),
    ]


def the_end_of_a_run_frees_its_start() -> Patches:
    real = rules.finish

    def finish(op: Finish, claim: Claim, now: int) -> Any:
        changed, answer = real(op, claim, now)
        return replace(changed, started=None), answer

    return rule(Finish, finish)


def a_dead_run_counts_as_a_start() -> Patches:
    def in_force(op: Any, claim: Claim, now: int) -> Any:
        started = claim.started
        return started if started is not None and now < started.at + op.unique else None

    return [mock.patch.object(calling, "in_force", in_force)]


def a_message_starts_whatever_has_started() -> Patches:
    nothing = mock.Mock(return_value=None)
    return [
        mock.patch.object(beginning, "in_force_for", nothing),
        mock.patch.object(beside, "in_force_for", nothing),
    ]


def calls_put_off_for_ever() -> Patches:
    """A debounce without an upper bound."""
    real = debounce.due_at

    def due_at(op: Any, now: int, first: int = 0, due: int = 0) -> int:
        return real(replace(op, debounce_max=records.FOREVER), now, first, due)

    return [mock.patch.object(debounce, "due_at", due_at)]


def a_burst_that_begins_at_its_first_time() -> Patches:
    return [mock.patch.object(beginning, "wait_until_due", lambda op, claim, now: (claim, None))]


def a_run_with_old_arguments() -> Patches:
    real = debounce.put_off

    def put_off(op: Any, holder: Holder, now: int) -> Holder:
        return real(replace(op, arguments=""), holder, now)

    return [mock.patch.object(calling, "put_off", put_off)]


def two_that_wait() -> Patches:
    """Each call that comes during a run buys a run of its own."""
    real = calling.join

    def join(op: ClaimCall, claim: Claim, holder: Holder, now: int) -> Any:
        return real(op, claim, replace(holder, next="", next_gen=""), now)

    return [mock.patch.object(calling, "join", join)]


def a_buffered_run_with_old_arguments() -> Patches:
    """What waits for the end of a run keeps those of its first caller."""
    real = debounce.put_off

    def put_off(op: Any, holder: Holder, now: int) -> Holder:
        return real(replace(op, arguments="") if holder.next else op, holder, now)

    return [mock.patch.object(calling, "put_off", put_off)]


def two_that_wait_for_one_run() -> Patches:
    return two_that_wait()


def a_second_run_that_is_lost() -> Patches:
    """What waited for a run takes its value, as one that shares it does."""
    real = beginning.settle_by_value

    def settle_by_value(op: Begin, *rest: Any) -> Any:
        return real(replace(op, refresh=False), *rest)

    return [mock.patch.object(beginning, "settle_by_value", settle_by_value)]


def what_waits_is_woken_by_nobody() -> Patches:
    """A caller that sees the end of a run before the store does frees the claim for the next."""
    return [mock.patch.object(calling, "wakes_next", return_value=False)]


def a_retry_that_others_wait_for_is_taken_for_served() -> Patches:
    real = beginning.settle_by_value

    def settle_by_value(op: Begin, claim: Claim, *rest: Any) -> Any:
        holder = claim.holder
        queued = holder is not None and holder.state == "queued"
        seen = claim if queued else replace(claim, holder=None)
        settled = real(op, seen, *rest)
        return settled and (claim, settled[1])

    return [mock.patch.object(beginning, "settle_by_value", settle_by_value)]


def a_retry_that_is_left_out_forgets_who_sent_it() -> Patches:
    """Who sent it says so late, and keeps the claim for a message that has come and gone."""
    real = rules.release
    return rule(Release, lambda op, claim, now: real(replace(op, after=""), claim, now))


TWO, THREE = CASTS["two plain calls"], CASTS["three plain calls"]
HASTENED = CASTS["a refresh of a task that waits until it is quiet"]
PINNED, RETRIED = CASTS["a plain and a pinned call"], CASTS["a task that is retried"]
TURNS = CASTS["a task that takes turns"]
RUN_HERE, FAILED_HERE = (
    CASTS["a task that runs at its caller when it cannot be sent"],
    CASTS["a task that fails at its caller when it cannot be sent"],
)
QUIET = CASTS["a task that waits until it is quiet"]
AGAIN = CASTS["a task that waits until it is quiet, and is retried"]
ONCE_MORE = CASTS["a task that runs once more"]
START, NAMED = (
    CASTS["a task that is unique until it begins"],
    CASTS["a named call of a task that is unique until it begins"],
)
#: Options of a call that the worker settles.
LATER = (("countdown", 1),)
ONCE, ONCE_FAILS = (
    CASTS["a task that starts once in a time"],
    CASTS["a task that fails, and starts once in a time"],
)

#: A bug, and the smallest of the explored scenarios in which it shows.
MUTATIONS: dict[Callable[[], Patches], Scenario] = {
    no_second_check: TWO,
    release_by_key: with_faults(TWO, "wait", "publish"),
    finish_by_key: with_faults(TWO, "lapse"),
    renew_by_key: with_faults(TWO, "lapse"),
    done_before_the_result_is_stored: with_faults(TWO, "crash"),
    no_mark_of_the_ending: TWO,
    a_retry_joins_itself: RETRIED,
    takeover_without_comparing: PINNED,
    a_second_delivery_runs: with_faults(TWO, "copy"),
    a_lease_never_ends: with_faults(TWO, "crash"),
    no_takeover: with_faults(TWO, "crash"),
    a_message_that_was_given_up_runs: with_faults(TWO, "publish"),
    nobody_says_that_it_could_not_be_sent: with_faults(TWO, "publish"),
    no_withdrawal: with_faults(TWO, "publish"),
    a_run_at_its_caller_that_the_store_did_not_confirm_is_joined_for_ever: with_faults(
        RUN_HERE, "store", "publish"
    ),
    who_took_a_message_over_is_given_an_id_that_was_never_sent: with_faults(
        FAILED_HERE, "publish", "lapse"
    ),
    a_late_lapse: replace(with_faults(THREE, "wait", "wait", "publish"), workers=1),
    the_first_message_frees_the_takeover: with_faults(TWO, "expire", "wait"),
    forget_forgets_those_who_wait: with_faults(TWO, "forget", "crash"),
    what_did_not_begin_stays_joinable: with_faults(TWO, "store"),
    orphans_are_not_served: with_faults(PINNED, "crash"),
    a_dead_child_keeps_its_claim_for_ever: with_faults(TWO, "crash"),
    a_dead_child_frees_what_any_child_of_its_worker_runs: with_faults(RETRIED, "crash", "late"),
    who_could_not_send_gives_up_what_another_has_hastened: with_faults(HASTENED, "publish"),
    nobody_looks_whether_a_message_has_ended: with_faults(TWO, "unknown"),
    a_lost_message_is_waited_for_as_long_as_a_run: with_faults(TWO, "purge"),
    nobody_is_told_that_somebody_waits: PINNED,
    the_mark_is_made_before_there_is_anybody_to_wake: PINNED,
    the_end_of_a_run_wakes_nobody: PINNED,
    who_takes_over_forgets_who_waits: with_faults(CASTS["a plain and two pinned calls"], "wait"),
    nobody_who_waits_looks: with_faults(PINNED, "wake"),
    the_claim_is_kept_for_a_line_that_has_ended: TURNS,
    who_was_woken_waits_for_the_line: TURNS,
    a_message_that_was_given_up_stops_the_line: with_faults(TURNS, "publish"),
    calls_put_off_for_ever: QUIET,
    a_burst_that_begins_at_its_first_time: QUIET,
    a_run_with_old_arguments: QUIET,
    two_that_wait: QUIET,
    a_buffered_run_with_old_arguments: ONCE_MORE,
    two_that_wait_for_one_run: ONCE_MORE,
    a_second_run_that_is_lost: replace(ONCE_MORE, budget=Budget(tick=1)),
    what_waits_is_woken_by_nobody: QUIET,
    a_retry_that_others_wait_for_is_taken_for_served: replace(AGAIN, budget=Budget(wait=2)),
    a_retry_that_is_left_out_forgets_who_sent_it: with_faults(AGAIN, "lapse"),
    a_run_that_holds_nobody_up_is_not_remembered: with_faults(START, "copy"),
    who_depended_on_a_dead_run_is_forgotten: with_faults(START, "crash"),
    a_run_answers_calls_that_were_made_after_it_began: with_faults(NAMED, "tick"),
    it_holds_others_up_all_the_same: START,
    a_failure_does_not_free_its_start: ONCE_FAILS,
    the_end_of_a_run_frees_its_start: ONCE,
    a_dead_run_counts_as_a_start: with_faults(ONCE, "crash"),
    a_message_starts_whatever_has_started: replace(ONCE, callers=((), LATER)),
}


@contextmanager
def planted(mutation: Callable[[], Patches]) -> Iterator[None]:
    """Plant a bug for as long as the context lasts."""
    patches = mutation()
    ACTORS.forget()
    for patch in patches:
        patch.start()
    try:
        yield
    finally:
        for patch in reversed(patches):
            patch.stop()
        ACTORS.forget()
