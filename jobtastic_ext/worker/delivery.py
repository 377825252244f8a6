"""One delivered message of a policy task: begin, then run, follow or reuse."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import celery
from celery import Celery, states
from celery.app.task import Context, Task
from celery.exceptions import Ignore, Reject, Retry
from kombu.exceptions import OperationalError
from msgspec.structs import asdict, replace

from .. import signals
from ..broker.arguments import packed, unpacked
from ..broker.line import NoLine
from ..broker.lines import SLOW_LOOK, Lines
from ..broker.routing import Routes
from ..celery_internals import carried_headers, ignores_result
from ..claims.claimed_run import Run, release_message
from ..claims.decision_log import log_decision
from ..claims.generation import trace_of
from ..claims.header import HEADER, Header, foreign_key, read_header
from ..claims.line import wake
from ..claims.protocol import Settled, start
from ..claims.records import Answer, Begin, Claim
from ..claims.store import Store
from ..counts.tally import Tally
from ..errors import ArgumentNotEncodable, ArgumentUnknown, DuplicateCall, StoreError
from ..hooks import Entered, state_of
from ..policy.model import Plan
from ..resilience.redaction import in_log
from ..results.backend import Backend
from ..results.kinds import wants_result
from ..telling import OF_MESSAGES, tell, told
from .contents import content_of, key_of
from .identity import child_token

logger = logging.getLogger("jobtastic_ext")

#: Where a broker keeps no lines, seconds before a message that follows is looked at again: first,
#: longest, and the growth.
FIRST_LOOK, LAST_LOOK, GROWTH = 0.1, 5.0, 1.5

#: Answers by which another's run serves a message.
SHARED = ("reuse", "follow", "joined")

#: Since then a message that was sent by name says whether its sender has asked for a result.
SAYS_IF_ASKED = (5, 7)

#: Milliseconds for which the arrival of a message is remembered: longer than a caller's deadline.
ARRIVAL = 600_000


@dataclass(frozen=True, kw_only=True)
class Deliveries:
    """What the worker's path is handed."""

    app: Celery
    plan: Callable[[Task], Plan | None]
    keys_head: str
    routes: Routes
    #: Warns of a thing once in this process.
    tell_once: Callable[..., None]
    store: Store
    results: Backend
    lines: Lines
    #: Celery's own `apply_async`.
    publish: Callable[..., Any]
    tally: Tally
    #: What surrounds the body of a task while it runs.
    around_body: Callable[[Entered], AbstractContextManager[Any]]
    #: What each wrapped task had of its own: name of the task, then of the attribute.
    wrapped: dict[str, dict[str, Any]] = field(default_factory=dict)


class Message:
    """One delivered message of a policy task, before its body runs."""

    def __init__(
        self,
        deliveries: Deliveries,
        plan: Plan,
        task: Task,
        request: Context,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        tracks: bool = False,
    ) -> None:
        self.tracks = tracks
        self.deliveries, self.plan, self.task, self.request = deliveries, plan, task, request
        self.state = state_of(request)
        self.args, self.kwargs = args, kwargs
        #: Seconds from the call to the worker's question, by the store's clock.
        self.waited: float | None = None
        raw = getattr(request, HEADER, None)
        self.header = read_header(raw, plan.key_head, request.id)
        # Older Celery puts False into every message that is sent by name.
        told = self.header.key or celery.VERSION >= SAYS_IF_ASKED
        asked = request.__dict__.get("ignore_result") if told else None
        #: Nobody can read how it ends.
        self.blind = plan.blind and not wants_result(task, asked)
        #: Where the call was sent by name.
        self.place = self.header.place
        here = deliveries.keys_head
        there = "" if self.header.key else foreign_key(raw, here, request.id)
        if there:
            deliveries.tell_once(
                "namespace",
                "%s: its caller and this worker are taken for two deployments, and share nothing "
                "(%s there, %s here); if they are one, set jobtastic_key_prefix in both",
                task.name,
                there,
                here,
            )

    def run(self, body: Callable[..., Any]) -> Any:
        """Return the value of the run, or that of the run it shares."""
        body = self.shown(body)
        shared = self.plan.exclusive or self.plan.blind
        if ignores_result(self.task, self.request) and not shared:
            return body(*self.args, **self.kwargs)  # sent by name, and nobody could share it
        try:
            self.key, self.place = key_of(
                self.plan, self.deliveries.routes, self.task, self.header, self.request
            )
        except (ArgumentNotEncodable, ArgumentUnknown, TypeError) as error:
            self.deliveries.tell_once(f"unshared {self.task.name}", "runs unshared: %s", error)
            self.disown()
            return body(*self.args, **self.kwargs)
        if self.header.key not in ("", self.key):
            self.disown()
        message = self.opening()
        try:
            settled = self.settle(message)
        except StoreError as error:
            if self.plan.policy.on_store_error == "raise":
                self.state.body = "not reached"  # the call is let go of, should the store be back
                self.log("fails", str(error), logging.WARNING)
                # Pages show it: where the store is, and what its driver says, is for the log.
                raise type(error)("the store of claims is out of service") from None
            self.log("runs", f"unshared: {error}")
            return self.run_unshared(message, body)
        return self.carry_out(settled, message, body)

    def settle(self, message: Begin) -> Settled:
        store, results = self.deliveries.store, self.deliveries.results
        is_copy = self.header.copy or message.bare or message.redelivered
        blind = self.blind
        settled = start(store, results, self.key, message, is_copy=is_copy, blind=blind)
        parent = self.request.parent_id
        if self.header.key or not parent or settled.answer.word not in SHARED:
            return settled
        claim = store.read(self.key) or Claim()
        if parent not in claim.owners:
            return settled
        # A run of this very call has sent it, by name: it wants a run of its own.
        self.header = replace(self.header, refresh=True)
        return start(store, results, self.key, replace(message, refresh=True), blind=blind)

    def disown(self) -> None:
        """Let go of what the header names, which is not the call that the message holds.

        The header comes from outside, and other calls are not to be given what this one returns.
        Or its caller saw other arguments or headers than those that arrived.
        """
        header = self.header
        if not header.key:
            return
        self.deliveries.tell_once(
            f"disowned {self.task.name}",
            "%s[%s]: its message holds another call than its caller made (key %s): headers that "
            "were added later (before_task_publish) or arguments that change on the way; it shares "
            "by what arrived",
            self.task.name,
            self.request.id,
            header.key,
        )
        # Asks for nothing but whether its sender has given it up.
        asked = Begin(
            task_id=self.request.id, run="-", lease=0, herd=0, gen=header.gen, bare=header.bare
        )
        with contextlib.suppress(StoreError):
            if self.deliveries.store.apply(header.key, asked).word == "dropped":
                self.state.body = "left out"
                self.decide("dropped", "its sender gave up")
                raise Ignore
        self.release(header.key)
        self.header = Header(
            id=header.id, since=header.since, refresh=header.refresh, place=header.place
        )

    def opening(self) -> Begin:
        """Return what asks the store whether this message may run."""
        header, plan = self.header, self.plan
        heeds = plan.debounce > 0 and not plan.policy.shadow
        counted = header.since > 0 and (header.gen != "" or header.looks > 0)
        calls = heeds and not counted and not self.request.retries
        return Begin(
            task_id=self.request.id,
            run=f"{child_token(os.getpid())}{os.urandom(6).hex()}",
            lease=self.plan.lease if self.plan.herd or self.plan.exclusive else 0,
            herd=self.plan.herd,
            gen=self.header.gen,
            attempt=self.request.retries or 0,
            group=self.request.group or "",
            exclusive=self.plan.exclusive,
            starts=self.plan.starts,
            unique=self.plan.unique,
            refresh=self.header.refresh or self.plan.buffers,
            since=self.header.since,
            after=self.header.after,
            bare=self.header.bare,
            redelivered=self.header.copy
            or bool((self.request.delivery_info or {}).get("redelivered")),
            arrival=ARRIVAL if self.header.guarded else 0,
            waited=self.header.line,
            heed=heeds,
            debounce=plan.debounce if calls else 0,
            debounce_max=plan.debounce_max if calls else 0,
            arguments=packed(self.task, (self.request.args, self.request.kwargs))
            if calls and plan.newest
            else "",
        )

    def shown(self, body: Callable[..., Any]) -> Callable[..., Any]:
        """Return a body that shows when it begins, and nothing any more when it is over."""

        def run(*args: Any, **kwargs: Any) -> Any:
            key = getattr(self, "key", "")
            if self.tracks and not ignores_result(self.task, self.request):
                started = {"pid": os.getpid(), "hostname": self.request.hostname}
                self.task.backend.store_result(
                    self.request.id, started, states.STARTED, request=self.request
                )
            entered = Entered(self.task, self.request, args, kwargs, key)
            with self.deliveries.around_body(entered), told(entered, self.waited):
                return body(*args, **kwargs)

        return run

    def carry_out(self, settled: Settled, message: Begin, body: Callable[..., Any]) -> Any:
        answer, outcome = settled.answer, settled.outcome
        if self.header.since and answer.at:
            self.waited = max(answer.at - self.header.since, 0) / 1000
        if answer.word not in ("run", "follow", "joined", "wait"):
            self.let_pass(answer)
        if answer.word in ("run", "free"):
            run = self.new_run(message, answer)  # first: whatever happens, it is let go of
            if answer.arguments:
                self.take(answer.arguments)
            if answer.word == "run" and answer.left:
                self.count("freed_by_lease")
                tell(signals.run_freed, self.task, task_id=self.request.id, key=self.key)
            return self.run_body(run, body)
        if self.plan.policy.shadow:
            self.log(f"would be {answer.word}", f"task {answer.id}")
            return body(*self.args, **self.kwargs)
        if answer.word not in ("follow", "joined", "wait"):
            self.state.body = "left out"
        if answer.word == "dropped":
            self.decide("dropped", "its sender gave up, or it is a late copy")
            raise Ignore
        if answer.word == "finished":
            self.decide("dropped", "it has run already")
            self.release(self.key)
            raise Ignore
        if answer.word == "wait":
            return self.put_off(answer, message, body)
        if answer.word in ("follow", "joined"):
            return self.follow(answer, message, body)
        if outcome is None:
            return self.end_unserved(answer)
        self.count("reused")
        self.decide("reused", f"the outcome of task {answer.id}", answer)
        if outcome.failed:
            raise outcome.value
        return outcome.value

    def end_unserved(self, answer: Answer) -> None:
        """Task `answer.id` has done it, and has left no outcome: end without, as a duplicate.

        What comes after it in a canvas goes on.
        """
        self.count("reused")
        self.decide("dropped", f"task {answer.id} does it, and has no result to share", answer)
        self.state.body = "left out"
        if not self.in_canvas:
            raise Ignore

    @property
    def in_canvas(self) -> bool:
        """Whether something is to happen when this message has succeeded."""
        request = self.request
        return any((request.chord, request.group, request.chain, request.callbacks))

    def run_body(self, run: Run, body: Callable[..., Any]) -> Any:
        try:
            value = body(*self.args, **self.kwargs)
        except (Retry, Ignore, Reject):
            run.over = True
            raise
        except Exception:
            run.end(failed=True)
            raise
        run.end(failed=False)
        return value

    def run_unshared(self, message: Begin, body: Callable[..., Any]) -> Any:
        """Run whatever the store says, and see that nobody joins this message afterwards."""
        run = self.new_run(message, Answer("unsure", gen=self.header.gen))
        return self.run_body(run, body)

    def new_run(self, message: Begin, answer: Answer) -> Run:
        our = self.deliveries
        run = Run(our.store, our.results, our.lines, self.plan, self.key, message, answer)
        run.place = self.place
        self.state.claim = run
        return run

    def release(self, key: str) -> None:
        our, task_id, header = self.deliveries, self.request.id, self.header
        release_message(
            our.store, our.lines, self.plan, key, task_id, after=header.after, bare=header.bare
        )

    def let_pass(self, answer: Answer) -> None:
        """Wake the next of the line; or all, if this one came by itself, lest nobody does."""
        if self.plan.exclusive or 0 < self.header.due <= answer.at:
            self.wake(self.header.line)

    def wake(self, places: str) -> None:
        wake(self.deliveries.store, self.deliveries.lines, self.plan, self.key, places)

    def follow(self, answer: Answer, message: Begin, body: Callable[..., Any]) -> Any:
        """Put the message where it waits, so that no slot is held and no state changes."""
        other, own = answer.id, answer.id == self.request.id
        displaced = self.header.gen == answer.gen  # it had the claim, and another one ran first
        refused = self.plan.policy.on_duplicate == "raise" and not self.header.refresh
        if refused and not own and not displaced:
            self.state.body = "left out"
            self.count("refused")
            self.decide("refused", f"task {other} is running", answer)
            raise DuplicateCall(self.task.name, other)
        waits = message.refresh and answer.word == "follow"  # it is to run after that
        if self.blind and not (own or self.in_canvas or waits):
            return self.end_unserved(answer)
        looks = self.header.looks
        header = replace(
            self.header,
            id=self.request.id,
            key=self.key,
            place=self.place,
            looks=looks + 1,
            since=self.header.since or answer.at - 1,  # the run had not ended then
            copy=own,
        )
        try:
            place = self.park(header, answer)
            if not place:
                self.publish(replace(header, line="", due=0), countdown=self.pause(looks))
        except Exception as error:  # noqa: BLE001 - better twice than never
            self.log("runs", f"it could not be put back: {error!r}", logging.WARNING)
            return self.run_unshared(message, body)
        self.state.body = "left out"
        level = logging.INFO if not looks else logging.DEBUG
        self.decide("waits", f"task {other} is running", answer, level)
        if place:
            self.look_again(replace(message, parked=place), place)
        raise Ignore

    def put_off(self, answer: Answer, message: Begin, body: Callable[..., Any]) -> Any:
        """Send the message again, for when it is due: there was a call meanwhile."""
        header = replace(
            self.header,
            id=self.request.id,
            key=self.key,
            place=self.place,
            gen=self.header.gen or answer.gen,
            looks=self.header.looks + 1,
            since=self.header.since or answer.at,
            line="",
            due=0,
        )
        try:
            self.publish(header, countdown=answer.countdown)
        except Exception as error:  # noqa: BLE001 - better early than never
            self.log("runs", f"it could not be put back: {error!r}", logging.WARNING)
            return self.run_unshared(message, body)
        self.state.body = "left out"
        self.decide("waits", f"it is due in {answer.rest} ms", answer, logging.DEBUG)
        raise Ignore

    def take(self, arguments: str) -> None:
        """Run, and retry, with the arguments of the newest call instead of those of the message."""
        try:
            args, kwargs = unpacked(self.task, arguments)
        except Exception as error:  # noqa: BLE001 - its caller had a serializer of its own
            self.log("runs", f"with the arguments of its message: {in_log(error)}", logging.WARNING)
            return
        self.args, self.kwargs = tuple(args), kwargs
        self.request.args, self.request.kwargs = args, kwargs

    def pause(self, looks: int) -> float:
        pause = min(FIRST_LOOK * GROWTH ** min(looks, 20), LAST_LOOK)
        # Quorum queues delay by whole seconds.
        return max(pause, 1.0) if self.deliveries.lines.kind == "amqp" else pause

    def park(self, header: Header, answer: Answer) -> str:
        """Leave the message in the broker until it is woken; return where, or nothing.

        The first of those who wait comes back by itself, when the run may prove to be dead.
        """
        lines = self.deliveries.lines
        if not lines.can_park:
            return ""
        seconds = min(SLOW_LOOK, answer.rest / 1000)
        place = lines.place(self.request.delivery_info)
        header = replace(header, line=place, due=answer.at + round(seconds * 1000))

        def send(producer: Any) -> None:
            self.publish(header, producer=producer, retry=False)

        try:
            lines.park(self.key, send, seconds, front=self.header.line != "")
        except (NoLine, OperationalError) as error:
            self.log("is not parked", repr(error), logging.WARNING)
            return ""
        return place

    def look_again(self, message: Begin, place: str) -> None:
        """What it waits for may have ended before it was parked, and woken nobody."""
        with contextlib.suppress(StoreError):  # else it comes back by itself
            if self.deliveries.store.apply(self.key, message).word != "follow":
                self.wake(place)

    def publish(self, header: Header, **options: Any) -> None:
        """Publish this very message again: same id, callbacks, chord and retries."""
        request = self.request
        signature = self.task.signature_from_request(
            request,
            request.args,
            request.kwargs,
            expires=None,  # it came in time
            retries=request.retries,
            headers={**carried_headers(request), HEADER: asdict(header)},
            **content_of(request),
            **options,
        )
        self.deliveries.publish(self.task, signature.args, signature.kwargs, **signature.options)

    def count(self, word: str) -> None:
        self.deliveries.tally.count(self.task.name, word)

    def decide(
        self, word: str, why: str, answer: Answer | None = None, level: int = logging.INFO
    ) -> None:
        """Say what becomes of this message, to the log and to who listens."""
        self.log(word, why, level)
        tell(
            OF_MESSAGES[word],
            self.task,
            task_id=self.request.id,
            key=getattr(self, "key", ""),
            args=self.args,
            kwargs=self.kwargs,
            other=answer.id if answer is not None else "",
            trace=trace_of(answer.gen) if answer is not None else "",
        )

    def log(self, decision: str, why: str, level: int = logging.INFO) -> None:
        key = getattr(self, "key", "-")
        log_decision(self.task.name, self.request.id, key, decision, why, level)
