"""The caller's path: key, claim, then publish, join or reuse."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from typing import Any

from celery.app.task import Task
from celery.result import AsyncResult
from celery.utils import uuid
from msgspec.structs import asdict

from . import signals
from .errors import ArgumentNotEncodable, DuplicateCall, StoreError
from .messages import HEADER, Header, expires_in, plain_arguments, retry_options
from .plans import Plan
from .protocol import Outcome, Settled, ask, withdraw
from .records import Answer, ClaimCall, Forget
from .runtime import Runtime

__all__ = ("apply_async", "forget", "log_decision")

logger = logging.getLogger("jobtastic_ext")

Publish = Callable[..., AsyncResult]

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

#: Those that only a canvas sets: one part that failed at the caller would leave the rest hanging.
CANVAS = ("chord", "chain", "group_id")

WHY = {
    "claimed": "no identical call is under way",
    "free": "nothing to share",
    "takeover": "the run or the message that held the call counts as lost",
    "joined": "an identical call is under way",
    "cached": "an identical call has ended",
    "stale": "an identical call has ended and is being refreshed",
    "refresh": "an identical call has ended and is old",
}


def apply_async(
    runtime: Runtime, publish: Publish, task: Task, args: Any, kwargs: Any, options: dict[str, Any]
) -> AsyncResult:
    """Do what `Task.apply_async` does, once for identical calls."""
    refresh = bool(options.pop("refresh", False))
    plan = runtime.plan(task)
    if plan is None or not plan.shares or runtime.app.conf.task_always_eager:
        return publish(task, args, kwargs, **options)
    if options.get("retries"):
        return publish(task, args, kwargs, **retry_options(task, args, kwargs, options))
    try:
        key = plan.key(*plain_arguments(task, args, kwargs, options))
    except ArgumentNotEncodable:
        raise
    except TypeError:
        return publish(task, args, kwargs, **options)  # Celery reports the wrong arguments
    call = Call(runtime, publish, plan, task, args, kwargs, options, key, refresh)
    if plan.exclusive or options.get("countdown") or options.get("eta"):
        call.log(call.claim.task_id, "published", "it is settled at the worker")
        return call.send(call.free())
    return call.settle()


class Call:
    """One call of a policy task, from its key to the result that it returns."""

    def __init__(
        self,
        runtime: Runtime,
        publish: Publish,
        plan: Plan,
        task: Task,
        args: Any,
        kwargs: Any,
        options: dict[str, Any],
        key: str,
        refresh: bool,
    ) -> None:
        self.runtime, self.publish, self.plan, self.task = runtime, publish, plan, task
        self.args, self.kwargs, self.options = args, kwargs, options
        self.key, self.refresh = key, refresh
        hold, expires = plan.herd, expires_in(task, options)
        if expires is not None:
            hold = min(hold, max(1, round(expires * 1000)))
        self.claim = ClaimCall(
            task_id=options.get("task_id") or uuid(),
            gen=os.urandom(8).hex(),
            hold=hold,
            pinned=any(options.get(name) for name in PINNING),
            refresh=refresh,
            brief=expires is not None,
            group=options.get("group_id") or "",
        )

    def settle(self) -> AsyncResult:
        """Claim the call, and publish, join or reuse."""
        try:
            settled = ask(
                self.runtime.store, self.runtime.results, self.key, self.claim, self.is_cached
            )
        except StoreError as error:
            if self.plan.policy.on_store_error == "raise":
                raise
            self.log(self.claim.task_id, "published", f"unshared: {error}")
            return self.send(self.free())
        answer = settled.answer
        if self.plan.policy.shadow:
            self.log(answer.id, f"would be {answer.word}", WHY[answer.word])
            return self.send_claimed(answer if answer.word == "claimed" else self.free())
        if answer.word == "joined":
            return self.join(answer)
        if answer.word in ("cached", "stale", "refresh") and not self.claim.pinned:
            return self.reuse(settled)
        self.log(answer.id, "published", WHY[answer.word])
        if answer.word in ("cached", "stale"):  # pinned: the worker reuses the result
            answer = self.free(answer.at)
        return self.send_claimed(answer)

    def is_cached(self, outcome: Outcome) -> bool:
        return bool(self.plan.failure_fresh if outcome.failed else self.plan.fresh)

    def free(self, at: int = 0) -> Answer:
        return Answer("free", self.claim.task_id, self.claim.gen, at)

    def join(self, answer: Answer) -> AsyncResult:
        duplicate = self.plan.policy.on_duplicate == "raise"
        canvas = any(self.options.get(name) for name in CANVAS)
        if duplicate and not canvas and answer.id != self.claim.task_id:
            self.log(answer.id, "refused", WHY["joined"])
            raise DuplicateCall(self.task.name, answer.id)
        if self.claim.pinned:
            self.log(self.claim.task_id, "published", f"to follow task {answer.id}")
            gen = self.claim.gen if duplicate else answer.gen
            return self.send(Answer("free", self.claim.task_id, gen, answer.at))
        self.log(answer.id, "joined", WHY["joined"])
        self.tell(signals.call_joined, answer.id)
        return self.shared(answer.id)

    def reuse(self, settled: Settled) -> AsyncResult:
        answer = settled.answer
        self.log(answer.id, "cached", WHY[answer.word])
        self.tell(signals.call_cached, answer.id)
        if answer.word == "refresh":
            try:
                self.send_claimed(answer)
            except Exception as error:  # noqa: BLE001 - the caller has its answer all the same
                self.log(self.claim.task_id, "not refreshed", repr(error), logging.WARNING)
        return self.shared(answer.id, settled.outcome.meta if settled.outcome else None)

    def send_claimed(self, answer: Answer) -> AsyncResult:
        """Publish, and leave nobody with an id that was never sent."""
        try:
            result = self.send(answer)
        except BaseException as error:
            self.withdraw(answer, error)
            raise
        if self.refresh or answer.word == "refresh":
            self.tell(signals.call_refreshed, self.claim.task_id)
        return result

    def send(self, answer: Answer) -> AsyncResult:
        options = dict(self.options)
        bare = answer.word == "takeover"
        options["task_id"] = answer.id if bare else self.claim.task_id
        if bare:
            options["expires"] = None  # others wait for this id, and theirs may not expire
        header = Header(
            id=options["task_id"],
            key=self.key,
            gen=answer.gen,
            since=answer.at,
            refresh=self.refresh,
            bare=bare,
        )
        options["headers"] = {**(options.get("headers") or {}), HEADER: asdict(header)}
        if options.get("ignore_result"):
            options["ignore_result"] = False  # others may join, and they want it
        with self.runtime.results.unsubscribed():
            return self.publish(self.task, self.args, self.kwargs, **options)

    def withdraw(self, answer: Answer, error: BaseException) -> None:
        let_go = withdraw(self.runtime.store, self.key, answer, self.claim, self.plan.herd)
        if let_go is None:
            return
        is_up = self.runtime.results_share_store
        try:
            if let_go().word != "ok":
                return  # the message has arrived after all, or another caller has sent it again
            self.log(self.claim.task_id, "released", f"it could not be sent: {error!r}")
        except StoreError as store_error:
            # It may have been carried out all the same, and others may wait for this id.
            self.log(self.claim.task_id, "not released", str(store_error), logging.WARNING)
            is_up = False
        if answer.word == "takeover":
            return
        if is_up:
            self.fail(error)
            return
        # The backend may be down like the broker, and Celery then tries for many seconds.
        marking = threading.Thread(target=self.fail, args=(error,), daemon=True)
        marking.start()
        marking.join(self.runtime.settings.publish_timeout)

    def fail(self, error: BaseException) -> None:
        try:
            self.runtime.results.fail(self.claim.task_id, error)
        except Exception as reason:  # noqa: BLE001 - the caller gets the broker's own error
            self.log(self.claim.task_id, "not marked as failed", repr(reason), logging.WARNING)

    def shared(self, task_id: str, meta: Any = None) -> AsyncResult:
        result = self.task.AsyncResult(task_id)
        if meta is not None:
            # Not `_maybe_set_cache`: before Celery 5.7 that unsubscribes under a lock in which the
            # garbage collector can hang the caller.
            result._set_cache(meta)
        parent = self.runtime.app.current_worker_task
        if parent and self.options.get("add_to_parent", True):
            parent.add_trail(result)
        return result

    def tell(self, signal: Any, task_id: str) -> None:
        if signal.receivers:
            signal.send(
                sender=self.task,
                task_id=task_id,
                key=self.key,
                args=self.args,
                kwargs=self.kwargs,
            )

    def log(self, task_id: str, decision: str, why: str, level: int = logging.INFO) -> None:
        log_decision(self.task.name, task_id, self.key, decision, why, level)


def log_decision(
    name: str, task_id: str, key: str, decision: str, why: str, level: int = logging.INFO
) -> None:
    """Write the one line by which a suppressed call puzzles nobody."""
    logger.log(level, "%s[%s] %s: %s (key %s)", name, task_id, decision, why, key)


def forget(runtime: Runtime, task: Task, args: Any, kwargs: Any) -> bool:
    """Drop the claim and the cached result of a call; return whether there was one."""
    plan = runtime.plan(task)
    if plan is None or not plan.shares:
        return False
    key = plan.key(args, kwargs)
    known = runtime.store.apply(key, Forget()).word == "ok"
    log_decision(task.name, "-", key, "forgotten", "somebody asked for it")
    return known
