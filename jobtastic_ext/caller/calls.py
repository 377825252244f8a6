"""The caller's path: key, claim, then publish, join or reuse."""

from __future__ import annotations

import logging
from typing import Any

from celery._state import _task_stack
from celery.app.task import Task
from celery.result import AsyncResult, EagerResult
from celery.utils import uuid
from kombu.exceptions import OperationalError
from msgspec.structs import asdict, replace

from .. import signals
from ..broker.arguments import packed
from ..broker.routing import OPTIONS
from ..celery_internals import custom_headers
from ..claims.claimed_run import Run
from ..claims.decision_log import WHY, log_decision
from ..claims.generation import new_generation, trace_of
from ..claims.header import HEADER, Header
from ..claims.line import wake
from ..claims.protocol import Outcome, Settled, ask, is_claimed, is_for_another
from ..claims.records import Answer, ClaimCall, Forget
from ..errors import (
    ArgumentNotEncodable,
    ArgumentUnknown,
    DuplicateCall,
    StoreError,
    StoreUnavailable,
)
from ..hooks import state_of
from ..policy.model import Plan
from ..resilience.deadline import hurried
from ..resilience.redaction import in_log
from ..results.kinds import wants_result
from ..telling import OF_CALLS, tell, trace_here
from .fallback import Undelivered, send_unshared
from .options import countdown_of, expires_in, plain_arguments, retry_options, take_fallback
from .sending import CANVAS, COUNTED, Caller, Publish, Sending, decided

#: Options by which Celery or the caller fixed the id, or hangs something on the message, so that
#: it has to be published whatever happens: the worker then settles what to do with it.
PINNING = (
    "task_id",
    "link",
    "link_error",
    "chord",
    "chain",
    "group_id",
    "reply_to",
    "replaced_task_nesting",
)

#: What would have become of a call that is only observed, by the store's answer.
WOULD_BE = {"joined": "joined", "cached": "cached", "stale": "stale", "refresh": "stale"}


def apply_async(
    caller: Caller,
    publish: Publish,
    task: Task,
    args: Any,
    kwargs: Any,
    options: dict[str, Any],
) -> AsyncResult | EagerResult:
    """Do what `Task.apply_async` does, once for identical calls, and count what became of it."""
    try:
        result = decide(caller, publish, task, args, kwargs, options)
    except BaseException as error:
        if is_counted(caller, task, options):
            refused = isinstance(error, DuplicateCall)
            caller.tally.count(task.name, "refused" if refused else "unsent")
        raise
    word: str | None = result.__dict__.get(COUNTED)  # of what Celery alone has sent, there is none
    if word is not None and caller.plan(task) is not None:
        caller.tally.count(task.name, word)
    return result


def is_counted(caller: Caller, task: Task, options: dict[str, Any]) -> bool:
    """Whether it is a call of a task with a policy, and not its retry."""
    eager = caller.app.conf.task_always_eager
    return not eager and not options.get("retries") and caller.plan(task) is not None


def decide(
    caller: Caller,
    publish: Publish,
    task: Task,
    args: Any,
    kwargs: Any,
    options: dict[str, Any],
) -> AsyncResult | EagerResult:
    """Settle the call, send it, or fall back."""
    on_broker_error = take_fallback(task)
    refresh = bool(options.pop("refresh", False))
    plan = caller.plan(task)
    if (plan is None and on_broker_error is None) or caller.app.conf.task_always_eager:
        return publish(task, args, kwargs, **options)
    if options.get("retries"):
        return publish(task, args, kwargs, **retry_options(task, args, kwargs, options))
    mode = on_broker_error or (plan.policy.on_broker_error if plan is not None else "raise")
    if options.get("headers"):
        options["headers"] = dict(options["headers"])  # Celery takes pairs as well
    sending = Sending(caller, publish, task, args, kwargs, options, mode)
    if plan is None or not plan.shares:
        return send_unshared(sending)
    headers, place = options.get("headers"), tuple[str, ...]()
    if plan.vary.queue and (options.keys() & OPTIONS):
        place = caller.routes.named(task, args, kwargs, options)
    try:
        vary = plan.vary.of(custom_headers(headers) if headers else None, place)
        given = plain_arguments(task, args, kwargs, options)
        key = plan.key(*given, vary)
    except (ArgumentNotEncodable, ArgumentUnknown) as error:
        if plan.exclusive and isinstance(error, ArgumentNotEncodable):
            raise  # never two at once, not even of these
        caller.tell_once(f"unshared {task.name}", "unshared: %s", error)
        return send_unshared(sending)
    except TypeError:
        return send_unshared(sending)  # Celery reports the wrong arguments
    call = Call(sending, plan, key, given, refresh, place)
    if plan.exclusive or (not plan.debounce and (options.get("countdown") or options.get("eta"))):
        return call.send_claimed(call.free(), "it is settled at the worker")
    return call.settle()


def caller_of(key: str) -> Run | None:
    """Return the run from whose body a call of its own key is made; None if there is none."""
    for task in _task_stack.stack:
        for request in task.request_stack.stack:
            run: Run | None = state_of(request).claim
            if run is not None and run.key == key and not run.over:
                return run
    return None


class Call:
    """One call of a policy task, from its key to the result that it returns."""

    def __init__(
        self,
        sending: Sending,
        plan: Plan,
        key: str,
        given: tuple[Any, Any],
        asked: bool,
        place: tuple[str, ...],
    ) -> None:
        self.sending, self.plan, self.key, self.place = sending, plan, key, place
        #: The caller asked for a new run.
        self.asked = asked
        run = caller_of(key)
        #: A run that calls itself wants another one, which begins after it; not so if it replaces
        #: itself, under its own id.
        self.again = run is not None and run.begun.task_id != sending.options.get("task_id")
        self.refresh = asked or self.again
        self.caller, self.task, self.options = sending.caller, sending.task, sending.options
        wants = wants_result(self.task, self.options.get("ignore_result"))
        #: Whether nobody can read how the run ends, not even who calls.
        self.blind = plan.blind and not wants
        # Of a call that is put off others wait for the message, and theirs may not expire.
        seconds = None if plan.debounce else expires_in(self.task, self.options)
        expires = 0 if seconds is None else max(1, round(seconds * 1000))
        self.claim = ClaimCall(
            task_id=self.options.get("task_id") or uuid(),
            gen=new_generation(trace_here(self.caller.app)),
            hold=min(plan.hold, expires or plan.hold),
            pinned=wants or any(self.options.get(name) for name in PINNING),
            refresh=asked if plan.debounce else self.refresh,
            buffer=plan.buffers,
            unique=plan.unique,
            debounce=plan.debounce,
            debounce_max=plan.debounce_max,
            countdown=round(countdown_of(self.task, self.options) * 1000) if plan.debounce else 0,
            arguments=packed(self.task, given, self.options.get("serializer"))
            if plan.newest
            else "",
            expires=expires,
            group=self.options.get("group_id") or "",
        )
        self.undelivered = Undelivered(sending, plan, key, self.claim)

    def settle(self) -> AsyncResult | EagerResult:
        """Claim the call, and publish, join or reuse."""
        try:
            with hurried(self.sending.mode != "raise"):
                settled = ask(
                    self.caller.store,
                    self.caller.results,
                    self.key,
                    self.claim,
                    self.is_cached,
                    self.blind,
                )
        except StoreError as error:
            if self.plan.policy.on_store_error == "raise":
                raise
            return self.send_unclaimed(error)
        answer = settled.answer
        if self.plan.policy.shadow:
            self.log(answer.id, f"would be {answer.word}", WHY[answer.word])
            self.tell(signals.call_observed, answer.id, WOULD_BE.get(answer.word, "published"))
            own = answer.word in ("claimed", "buffered")
            if answer.word in WOULD_BE and answer.word != "refresh":  # which would be a run, too
                self.count(f"shadow_{WOULD_BE[answer.word]}")
            return self.send_claimed(answer if own else self.free(), "it only observes")
        if answer.word == "joined":
            return self.join(answer)
        if answer.word in ("cached", "stale", "refresh") and not self.claim.pinned:
            return self.reuse(settled)
        why = "the run calls itself" if self.again else WHY[answer.word]
        if answer.word in ("cached", "stale"):  # pinned: the worker reuses the result
            answer = self.free(answer.at)
        return self.send_claimed(answer, why)

    def is_cached(self, outcome: Outcome) -> bool:
        return bool(self.plan.failure_fresh if outcome.failed else self.plan.fresh)

    def free(self, at: int = 0) -> Answer:
        return Answer("free", self.claim.task_id, self.claim.gen, at)

    def join(self, answer: Answer) -> AsyncResult | EagerResult:
        duplicate = self.plan.policy.on_duplicate == "raise"
        canvas = any(self.options.get(name) for name in CANVAS)
        if duplicate and not canvas and answer.id != self.claim.task_id:
            self.log(answer.id, "refused", WHY["joined"])
            self.tell(signals.call_refused, answer.id, "refused", answer.gen)
            raise DuplicateCall(self.task.name, answer.id)
        if self.claim.pinned:
            gen = self.claim.gen if duplicate else answer.gen
            message = Answer("free", self.claim.task_id, gen, answer.at)
            return self.send_claimed(message, f"to follow task {answer.id}")
        word = "debounced" if self.plan.debounce else "joined"
        self.log(answer.id, word, WHY[word])
        return self.decided(self.sending.result(answer.id), word, answer.gen)

    def reuse(self, settled: Settled) -> AsyncResult:
        answer = settled.answer
        word = "cached" if answer.word == "cached" else "stale"
        self.log(answer.id, word, WHY[answer.word])
        if word == "stale":
            self.tell(signals.call_cached, answer.id, word, answer.gen)
        if answer.word == "refresh":
            self.sending.is_patient = False  # the caller has its answer, and is not held up
            try:
                self.send_claimed(replace(answer, gen=self.claim.gen), WHY["refresh"])
            except Exception as error:  # noqa: BLE001 - the caller has its answer all the same
                self.log(self.claim.task_id, "not refreshed", in_log(error), logging.WARNING)
        meta = settled.outcome.meta if settled.outcome else None
        return self.decided(self.sending.result(answer.id, meta), word, answer.gen)

    def send_unclaimed(self, error: StoreError) -> AsyncResult | EagerResult:
        """Publish although the store did not answer; the claim may have been made all the same."""
        answer = self.free()
        self.undelivered.store_failed = True
        try:
            if isinstance(error, StoreUnavailable):
                self.sending.check()
            result = self.send(answer)
        except OperationalError as broker_error:
            return self.decided(self.undelivered.fall_back(answer, broker_error), "fallback")
        except BaseException:
            self.undelivered.owe(answer)
            raise
        self.log(self.claim.task_id, "published", f"unshared: {error}")
        return self.decided(result, "published")

    def send_claimed(self, answer: Answer, why: str) -> AsyncResult | EagerResult:
        """Publish, and leave nobody with an id that was never sent."""
        try:
            result = self.send(answer)
        except OperationalError as error:
            return self.decided(self.undelivered.fall_back(answer, error), "fallback")
        except BaseException as error:
            self.undelivered.abandon(answer, error)
            raise
        self.log(result.id, "published", why)
        if answer.word == "refresh":
            self.count("refreshing")
            # `reuse` tells what became of the call.
            self.tell(signals.call_refreshed, self.claim.task_id, "stale")
            return decided(result, "published")
        if answer.word == "takeover":
            self.count("taken_over")
            self.tell(signals.call_taken_over, result.id, "published", answer.gen)
            if answer.left:
                self.count("freed_by_lease")
                tell(signals.run_freed, self.task, task_id=result.id, key=self.key)
        word = "buffered" if answer.word == "buffered" else "published"
        return self.decided(result, "refreshed" if self.asked else word)

    def send(self, answer: Answer) -> AsyncResult:
        bare = is_for_another(answer)  # the first message may come yet
        task_id = answer.id if bare else self.claim.task_id
        header = Header(
            id=task_id,
            key=self.key,
            gen=answer.gen,
            place=self.place,
            since=answer.at,
            refresh=self.refresh or self.plan.buffers,
            bare=bare,
            guarded=self.sending.mode != "raise" and not is_claimed(answer),
        )
        changes: dict[str, Any] = {
            "task_id": task_id,
            "headers": {**(self.options.get("headers") or {}), HEADER: asdict(header)},
        }
        # What the store has not answered, or a policy only observes, is sent as its caller said.
        if self.plan.debounce and answer.at and not self.plan.policy.shadow:
            wait = answer.countdown if answer.rest else None
            changes.update(countdown=wait, eta=None, expires=None)
        elif bare or (answer.word == "buffered" and not self.plan.policy.shadow):
            changes["expires"] = None  # others wait for this id, and theirs may not expire
        if self.options.get("ignore_result") and not self.plan.blind:
            changes["ignore_result"] = False  # others may join, and they want it
        return self.sending.send(**changes)

    def count(self, word: str) -> None:
        self.caller.tally.count(self.task.name, word)

    def decided(self, result: Any, word: str, gen: str = "") -> Any:
        """Return a result that says what became of its call, and tell who listens."""
        self.tell(OF_CALLS[word], result.id, word, gen)
        return decided(result, word)

    def tell(self, signal: Any, task_id: str, word: str, gen: str = "") -> None:
        if signal.receivers:
            signal.send(
                sender=self.task,
                task_id=task_id,
                key=self.key,
                args=self.sending.args,
                kwargs=self.sending.kwargs,
                decision=word,
                trace=trace_of(gen),
            )

    def log(self, task_id: str, decision: str, why: str, level: int = logging.INFO) -> None:
        self.sending.log(task_id, self.key, decision, why, level)


def forget(caller: Caller, task: Task, args: Any, kwargs: Any) -> bool:
    """Drop the claim and the cached result of a call; return whether there was one."""
    plan = caller.plan(task)
    if plan is None or not plan.shares:
        return False
    try:
        key = plan.key(*plain_arguments(task, args, kwargs, {}))
    except (ArgumentNotEncodable, ArgumentUnknown):
        return False  # such a call is never shared
    answer = caller.store.apply(key, Forget())
    wake(caller.store, caller.lines, plan, key, answer.waiting)
    known = answer.word == "ok"
    log_decision(task.name, "-", key, "forgotten", "somebody asked for it")
    return known
