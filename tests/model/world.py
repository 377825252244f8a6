"""The world around the actors: store, broker, result backend, time; and everything that can happen.

A `World` is a frozen value.  `moves` yields every world that can follow it, each with a line that
says what happened.  Invariants that concern one move are checked as it is made (`Violation`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from jobtastic_ext.broker.publisher import NOT_TAKEN
from jobtastic_ext.claims import lifetime, rules
from jobtastic_ext.claims.protocol import LOOK
from jobtastic_ext.claims.records import (
    EMPTY,
    FOREVER,
    MOMENT,
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
)

from .actors import (
    ACTORS,
    HERD,
    LEASE,
    Behaviour,
    Effect,
    Finished,
    Message,
    Raised,
    child_of,
    names_in,
)

START = 1_000_000

READY = ("SUCCESS", "FAILURE", "REVOKED")

#: What a body returns.  If anybody asks whose it is, it is named, but not after the worker: which
#: of them it was does not tell worlds apart.
VALUE = "value"


class Violation(AssertionError):
    """An invariant does not hold."""


class Budget(Struct, frozen=True):
    """How often each fault may still happen."""

    #: A caller, a child of a worker, or a whole worker dies.
    crash: int = 0
    #: A store operation fails, before or after it was carried out.
    store: int = 0
    #: A store operation whose caller has given up is carried out later.
    late: int = 0
    #: A publish fails, though the message may be in the queue.
    publish: int = 0
    #: Time passes until something ends, without the workers that are alive renewing their leases.
    lapse: int = 0
    #: The same, with them renewing.
    wait: int = 0
    #: A millisecond passes.
    tick: int = 0
    #: A message is delivered a second time.
    copy: int = 0
    #: A message expires, or is revoked, before it begins.
    expire: int = 0
    #: Somebody calls `forget`.
    forget: int = 0
    #: A message vanishes from the queue: `celery purge`, a broker that was wiped.
    purge: int = 0
    #: A worker without the plugin takes a message, as in a rolling deploy.
    foreign: int = 0
    #: A message ends as a failure that tells nobody: a worker does not know the task.
    unknown: int = 0
    #: A wake-up is lost, comes late, or twice.
    wake: int = 0
    #: A message that waits comes back by itself.
    look: int = 0


#: What is a fault, and not only the passing of time.
FAULTS = (
    "crash",
    "store",
    "late",
    "publish",
    "lapse",
    "copy",
    "expire",
    "forget",
    "purge",
    "foreign",
    "unknown",
    "wake",
)


#: After these a start may have come to nothing without a word.
UNSURE = ("crash", "store", "late", "lapse", "publish", "forget", "foreign", "unknown")


class Scenario(Struct, frozen=True):
    """Who calls, how often what may go wrong, and what the task is."""

    callers: tuple[tuple[tuple[str, Any], ...], ...]
    budget: Budget
    workers: int = 2
    behaviour: Behaviour = Behaviour()
    acks_late: bool = False
    #: Runs never overlap, and nothing is shared.
    exclusive: bool = False
    cached: bool = False
    #: A call is answered by a run that begins after it.
    buffers: bool = False
    #: A run that has begun holds nobody up.
    starts: bool = False
    #: So many milliseconds there is one start at most.
    unique: int = 0
    #: In ms: a run begins so long after the last call, at the latest so long after the first.
    debounce: tuple[int, int] = (0, 0)
    #: A run has the arguments of whoever called last before it began, and one waits beside it.
    newest: bool = False
    #: The store is on the server of the results, and its answers bring them with them.
    sees: bool = False


class Caller(Struct, frozen=True):
    state: str = "new"  # calls, done, dead
    actor: int = -1
    id: str | None = None
    #: What anybody could have seen to be over before the call was made.
    past: tuple[str, ...] = ()


class Slot(Struct, frozen=True):
    """One worker with one slot, and the message in it."""

    message: Message
    name: str
    program: str
    actor: int


class Run(Struct, frozen=True):
    """A body that runs under a claim: what its worker believes."""

    token: str
    id: str
    #: Of the worker; below zero: a caller, which runs what could not be sent.
    slot: int
    #: The end of its lease; 0 when it has lost it, and knows.
    until: int
    herd: int
    exclusive: bool
    gen: str = ""
    #: What its body will return.
    value: str = VALUE
    #: The body has ended; what follows is bookkeeping.
    over: bool = False


class World(Struct, frozen=True):
    callers: tuple[Caller, ...]
    slots: tuple[Slot | None, ...]
    budget: Budget
    claim: int = 0
    now: int = START
    results: tuple[tuple[str, tuple[str, Any]], ...] = ()
    queue: tuple[Message, ...] = ()
    #: Those who wait in the broker for a run to end, first come first.
    parked: tuple[Message, ...] = ()
    runs: tuple[Run, ...] = ()
    #: Operations that will be carried out although nobody waits for their answer.
    late: tuple[tuple[Operation | bool, str], ...] = ()
    #: The last start that nothing has freed, and when it was.
    start: tuple[str, int] = ("", 0)
    #: Of a task that waits for quiet: who has called, and when, since a run has last begun.
    called: tuple[tuple[str, int], ...] = ()
    due: int = 0
    #: Who made the takeover that stands.
    taker: str = ""
    clean: bool = True
    #: What may happen after what has happened, as docs/reliability.md says: ``twice``, ``stale``,
    #: ``lost``, ``early``.
    excused: tuple[str, ...] = ()


class Claims:
    """Claims by number, so that a world with one is quick to compare."""

    def __init__(self) -> None:
        self.all: list[Claim] = []
        #: By number: when the store may drop it.
        self.expiry: list[int] = []
        #: By number: of whom it knows.
        self.names: list[frozenset[str]] = []
        self._numbers: dict[bytes, int] = {}
        self._steps: dict[Any, tuple[int, Answer]] = {}
        self.number(EMPTY)

    def number(self, claim: Claim) -> int:
        raw = msgspec.json.encode(claim, order="deterministic")
        if raw not in self._numbers:
            self._numbers[raw] = len(self.all)
            self.all.append(claim)
            self.expiry.append(lifetime.expiry(claim))
            self.names.append(names_in(raw.decode()))
        return self._numbers[raw]

    def step(self, operation: Operation, number: int, now: int) -> tuple[int, Answer]:
        at = (operation, number, now)
        found = self._steps.get(at)
        if found is None:
            old = self.all[number]
            old = lifetime.prune(old, now) if now < self.expiry[number] else EMPTY
            new, answer = rules.step(operation, old, now)
            if now >= lifetime.expiry(new):
                new = EMPTY
            found = self._steps[at] = self.number(new), answer
        return found


Moves = Iterator[tuple[str, World]]


class Model:
    """All that can happen in one scenario."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.claims = Claims()
        #: Of each caller: which options it names.  Those that name ids are alike, whatever the ids.
        self._named = [tuple(name for name, _ in options) for options in scenario.callers]

    def start(self) -> World:
        return World(
            callers=tuple(Caller() for _ in self.scenario.callers),
            slots=(None,) * self.scenario.workers,
            budget=self.scenario.budget,
        )

    def moves(self, world: World) -> Moves:
        """Yield everything that can happen next."""
        for index, caller in enumerate(world.callers):
            if caller.state == "new" and self._is_later_twin(world, index):
                continue
            if caller.state in ("new", "calls"):
                yield from self.step_caller(world, index)
        for index, slot in enumerate(world.slots):
            if slot is not None:
                yield from self.step_slot(world, index, slot)
        yield from self.deliveries(world)
        yield from self.passing(world)
        yield from self.late(world)
        if world.budget.look and world.parked:
            yield "one who waits looks", self.look(spend(world, "look"))
        if world.budget.forget:
            paid = spend(world, "forget")
            number, answer = self.claims.step(claims_forget, world.claim, world.now)
            paid = replace(paid, claim=number)
            if answer.waiting:
                paid, _ = self.wake(paid, self.scenario.exclusive)
            yield "somebody calls forget()", excuse(paid, "twice", "stale")

    def _is_later_twin(self, world: World, index: int) -> bool:
        """Callers alike that have not begun are interchangeable: only the first may begin."""
        named = self._named
        return any(
            world.callers[n].state == "new" and named[n] == named[index] for n in range(index)
        )

    # Callers

    def step_caller(self, world: World, index: int) -> Moves:
        caller = world.callers[index]
        name, options = f"c{index}", self.scenario.callers[index]
        if caller.state == "new":
            past = () if self.all_is_fresh(world) else self.past(world, pinned=bool(options))
            actor = ACTORS.begin("call", name, self.scenario.behaviour, options)
            caller = replace(caller, state="calls", actor=actor, past=tuple(sorted(set(past))))
        step = ACTORS.steps[caller.actor]
        assert isinstance(step, Effect)
        if world.budget.crash and world.callers[index].state == "calls":
            gone = without_runs(spend(world, "crash"), -1 - index)
            dead = put(gone, "callers", index, Caller(state="dead"))
            if step.kind == "write":
                dead = excuse(dead, "lost")  # it let go, and had yet to say that it failed
            yield f"caller {index} crashes", dead
        for label, changed, answer in self.perform(world, name, step, None):
            actor = ACTORS.after(caller.actor, answer)
            then = ACTORS.steps[actor]
            if isinstance(then, Finished):
                new = Caller(state="done", id=then.value, past=caller.past)
                new = served(new, final(changed, then.value))
                label += f"; is given {nice(then.value)}"
                changed = without_runs(changed, -1 - index)
            else:
                new = replace(caller, actor=actor)
            yield f"caller {index}: {label}", put(changed, "callers", index, new)

    def all_is_fresh(self, world: World) -> bool:
        """Whether nobody asks any more if a result was there before its call."""
        return self.scenario.cached or "stale" in world.excused

    def past(self, world: World, pinned: bool) -> tuple[str, ...]:
        """The values that can be read already, of runs whose claims know that they are over.

        A pinned call does not look whether a run that ends, or was taken for dead, has its result.
        """
        holder = self.claims.all[world.claim].holder
        results = dict(world.results)
        ending = None
        blind = pinned and holder is not None and (holder.taker or holder.unmarked)
        if holder is not None and (holder.ending or blind):
            ending = results.get(holder.owner)
        under_way = [run.value for run in world.runs if self.scenario.buffers]
        return tuple(under_way) + tuple(
            found[1] for found in results.values() if found[0] == "SUCCESS" and found != ending
        )

    # Workers

    def step_slot(self, world: World, index: int, slot: Slot) -> Moves:
        step = ACTORS.steps[slot.actor]
        if isinstance(step, Finished):
            yield f"worker {index}: had nothing to do", put(world, "slots", index, None)
            return
        if world.budget.crash:
            yield from self.crash_slot(world, index, slot)
        for label, changed, answer in self.perform(world, slot.name, step, index):
            actor = ACTORS.after(slot.actor, answer)
            over = isinstance(ACTORS.steps[actor], Finished)
            new = None if over else replace(slot, actor=actor)
            if new is None:
                label += "; is free again"
                changed = without_runs(changed, index)
            yield f"worker {index}: {label}", put(changed, "slots", index, new)

    def crash_slot(self, world: World, index: int, slot: Slot) -> Moves:
        paid = spend(without_runs(world, index), "crash")
        whole = put(paid, "slots", index, None)
        if not self.scenario.acks_late and self.is_unclaimed(world, slot.message):
            whole = excuse(whole, f"lost {slot.message.id}")
        if self.scenario.acks_late:
            again = replace(slot.message, redelivered=True)
            whole = replace(whole, queue=tuple(sorted((*whole.queue, again))))
        yield f"worker {index} is killed", whole
        if slot.program == "deliver":
            losing = self.slot(slot.message, slot.name, "lose")
            yield f"the child of worker {index} is killed", put(paid, "slots", index, losing)

    def is_unclaimed(self, world: World, message: Message) -> bool:
        """Whether the store knows nothing of a message that waits: Celery alone may lose it."""
        if world.now >= self.claims.expiry[world.claim]:
            return True  # it has been on its way for longer than its claim is kept
        own = {dict(options).get("task_id") for options in self.scenario.callers}
        herdless = dict(self.scenario.behaviour.policy).get("herd_avoidance_timeout") == 0
        return self.scenario.exclusive or herdless or message.id in own

    def deliveries(self, world: World) -> Moves:
        if None not in world.slots:
            return
        index = world.slots.index(None)
        for message in dict.fromkeys(world.queue):
            if message.eta > world.now:
                continue
            rest = list(world.queue)
            rest.remove(message)
            message = replace(message, eta=0)  # nobody asks any more when it was due
            taken = replace(world, queue=tuple(rest))
            child = f"w{index}.{self.crashes(world)}"  # another after each crash
            slot = self.slot(message, self.new_name(taken, f"{child}#", message))
            line = f"worker {index} receives {nice(message)}"
            yield line, put(taken, "slots", index, slot)
            if world.budget.copy:
                for flag in (True, False):
                    again = replace(message, redelivered=flag)
                    queue = tuple(sorted((*rest, again)))
                    copied = spend(replace(world, queue=queue), "copy")
                    # It may run again while its first result is what everybody sees.
                    copied = excuse(copied, "stale")
                    if "fail" in self.scenario.behaviour.body:
                        copied = excuse(copied, "early")  # the first has failed, and is known to
                    word = "redelivered" if flag else "plain"
                    yield f"{line} of two ({word})", put(copied, "slots", index, slot)
            yield from self.odd_deliveries(world, taken, index, slot, line)
            if world.budget.expire and not message.retries:
                expired = spend(taken, "expire")
                slots = [one.message for one in world.slots if one is not None]
                if message.id in {one.id for one in (*rest, *slots)}:
                    expired = excuse(expired, "early")  # it is known to have ended, and runs
                gone = self.slot(message, slot.name, "expire")
                yield f"{line}, expired", put(expired, "slots", index, gone)

    def new_name(self, world: World, begins: str, message: Message) -> str:
        """Name who takes a message up as nobody is named of whom anything is known."""
        known = set(self.claims.names[world.claim])
        for one in (message, *world.queue, *world.parked):
            known |= names_in(one.header)
        for late in world.late:
            known |= names_in(late)
        for run in world.runs:
            known |= names_in(run.token)
        for actor in (*world.callers, *world.slots):
            if actor is not None and actor.actor >= 0:
                known |= ACTORS.names_of(actor.actor)
        names = (f"{begins}{n}" for n in range(10))
        return next(name for name in names if name not in known)

    def slot(self, message: Message, name: str, program: str = "deliver") -> Slot:
        actor = ACTORS.begin(program, name, self.scenario.behaviour, message)
        return Slot(message, name, program, actor)

    def odd_deliveries(
        self, world: World, taken: World, index: int, slot: Slot, line: str
    ) -> Moves:
        """The message ends, and no worker with the plugin has had it in its hands."""
        message = slot.message
        if world.budget.purge:
            gone = spend(taken, "purge")
            if self.is_unclaimed(world, message):
                gone = excuse(gone, f"lost {message.id}")
            yield f"{nice(message)} vanishes", gone
        if world.budget.unknown:
            lost = self.slot(message, slot.name, "unknown")
            unknown = put(spend(taken, "unknown"), "slots", index, lost)
            yield f"{line}, and does not know the task", unknown
        if world.budget.foreign:
            # It shares nothing, and for a moment nobody looks whether it has ended.
            alien = excuse(spend(taken, "foreign"), "twice", "stale")
            alone = self.slot(message, slot.name, "foreign")
            yield f"{line} without the plugin", put(alien, "slots", index, alone)

    # Time

    def passing(self, world: World) -> Moves:
        if world.budget.tick:
            yield "1 ms passes", spend(replace(world, now=world.now + 1), "tick")
        for kind in ("lapse", "wait"):
            if not getattr(world.budget, kind) or (kind == "lapse" and not world.runs):
                continue
            for moment in self.moments(world):
                later = self.wait(world, moment) if kind == "wait" else replace(world, now=moment)
                word = "without" if kind == "lapse" else "with"
                line = f"time passes to {moment - START}, {word} renewals"
                yield line, spend(later, kind)
        for run in world.runs:
            if run.until and world.now >= run.until:
                yield f"worker {run.slot} renews late", self.renew(world, run)

    def moments(self, world: World) -> list[int]:
        """When something ends."""
        claim = self.claims.all[world.claim]
        ends = {*claim.tombstones.values(), *claim.arrivals.values()}
        if claim.holder is not None:
            ends |= {claim.holder.until, claim.holder.herd}
            ends |= {claim.holder.due - 1, claim.holder.due}
            if claim.holder.state == "queued":
                ends.add(max(claim.holder.at, claim.holder.looked) + MOMENT)
        if claim.value is not None:
            ends |= {claim.value.fresh, claim.value.stale}
        if claim.started is not None:
            ends.add(claim.started.until)
        ends |= {run.until for run in claim.beside.values()}
        ends |= {message.eta for message in world.queue}
        return sorted(end for end in ends if world.now < end < FOREVER)

    def wait(self, world: World, moment: int) -> World:
        """Let time pass, while those who are alive renew their leases."""
        while True:
            ends = [run.until for run in world.runs if world.now < run.until <= moment]
            if not ends:
                return replace(self.forgotten(world, moment), now=moment)
            world = replace(world, now=min(ends) - 1)
            for run in world.runs:
                if run.until <= world.now + 1:
                    world = self.renew(world, run)

    def forgotten(self, world: World, moment: int) -> World:
        """A lost message is sent again by the next call, if its claim is kept until then."""
        claim = self.claims.all[world.claim]
        if claim.holder is None or moment < self.claims.expiry[world.claim]:
            return world
        sent = {one.id for one in (*world.queue, *world.parked)}
        sent |= {slot.message.id for slot in world.slots if slot is not None}
        known = (*claim.holder.orphans, claim.holder.owner, claim.holder.next)
        return excuse(world, *(f"lost {one}" for one in known if one and one not in sent))

    def renew(self, world: World, run: Run) -> World:
        if run.slot < 0:
            name: str = f"c{-1 - run.slot}"
            operation: Operation = Renew(task_id=run.id, run=run.token, lease=LEASE)
        else:
            slot = world.slots[run.slot]
            assert slot is not None
            name = slot.name
            actor = ACTORS.begin("renew", name, self.scenario.behaviour, slot.message)
            step = ACTORS.steps[actor]
            assert isinstance(step, Effect)
            operation = step.what
        changed, answer = self.apply(world, name, operation, run.slot)
        if answer.word == "lost":
            # It has its lease no more; that it runs on is its own affair.
            ended = replace(run, until=0)
            runs = tuple(ended if one.token == run.token else one for one in changed.runs)
            return replace(changed, runs=runs)
        return changed

    # Effects

    def perform(
        self, world: World, name: str, effect: Effect, slot: int | None
    ) -> Iterator[tuple[str, World, Any]]:
        """Yield what an effect can come to: a line, the world after it, and its answer."""
        if effect.kind == "store":
            yield from self.perform_store(world, name, effect.what, slot)
        elif effect.kind == "read":
            found = dict(world.results).get(effect.what, ("PENDING", None))
            yield f"reads {nice(effect.what)}: {found[0]}", world, found
        elif effect.kind == "write":
            task_id, state, value = effect.what
            results = dict(world.results)
            world = self.celerys_own(world, name, task_id, state)
            if (state, value) == ("SUCCESS", VALUE) and not self.scenario.cached:
                value = f"{VALUE} of {nice(task_id)}"
            if results.get(task_id, ("",))[0] != "SUCCESS":
                results[task_id] = (state, value)
                world = self.serve(world, task_id, results[task_id])
            if state in ("FAILURE", "REVOKED") and task_id == world.start[0]:
                world = replace(world, start=("", 0))
            line = f"stores {state} of {nice(task_id)}"
            yield line, replace(world, results=tuple(sorted(results.items()))), None
        elif effect.kind == "wake":
            yield from self.perform_wake(world, name, effect.what)
        elif effect.kind in ("publish", "park", "park first"):
            if effect.kind == "publish":
                message = effect.what
                if message.eta:
                    message = replace(message, eta=world.now + message.eta)
                sent = replace(world, queue=tuple(sorted((*world.queue, message))))
                if world.clean and self.scenario.newest:
                    self.check_one_waits(sent)
            else:
                sent = replace(world, parked=self.parked(world, effect))
            line = f"{effect.kind}: {nice(effect.what)}"
            yield line, sent, None
            if world.budget.publish:
                if slot is not None:
                    # It runs unshared, or is rejected: the store knows nothing of it any more.
                    world = excuse(world, "twice", "lost", "stale")
                    sent = excuse(sent, "twice", "lost", "stale")
                yield f"{line}: error, not sent", spend(world, "publish"), Raised()
                yield f"{line}: error, sent", spend(sent, "publish"), Raised()
        else:
            place = place_of(name, slot)
            values = [run.value for run in world.runs if run.slot == place and not run.over]
            value = values[0] if values else VALUE
            ended = tuple(
                replace(run, over=True) if run.slot == place else run for run in world.runs
            )
            changed = replace(world, runs=ended)
            yield f"body ends: {value}", changed, value

    def value_of(self, world: World, operation: Begin) -> str:
        """What a run returns that begins now; where nobody asks when that was, as any other."""
        if not self.scenario.buffers or self.scenario.cached:
            return VALUE
        return f"{VALUE} of {nice(operation.task_id)}, {operation.attempt}, {self.crashes(world)}"

    def crashes(self, world: World) -> int:
        return self.scenario.budget.crash - world.budget.crash

    def serve(self, world: World, task_id: str, result: tuple[str, Any]) -> World:
        callers = tuple(
            served(caller, result) if caller.id == task_id else caller for caller in world.callers
        )
        return replace(world, callers=callers)

    def parked(self, world: World, effect: Effect) -> tuple[Message, ...]:
        if not self.scenario.exclusive:
            return tuple(sorted((*world.parked, effect.what)))  # all are woken at once
        first = effect.kind == "park first"
        return (effect.what, *world.parked) if first else (*world.parked, effect.what)

    def perform_wake(self, world: World, name: str, one: bool) -> Iterator[tuple[str, World, Any]]:
        line = "wakes the first" if one else "wakes all"
        woken, count = self.wake(world, one)
        yield f"{line}: {count}", woken, count
        if world.budget.wake:
            paid = spend(world, "wake")
            yield f"{line}: error, not done", paid, Raised()
            yield f"{line}: error, done", self.wake(paid, one)[0], Raised()
            yield (
                f"{line}: error, done later",
                replace(paid, late=(*paid.late, (one, name))),
                Raised(),
            )
            yield f"{line}, twice", self.wake(self.wake(paid, one)[0], one)[0], count

    def wake(self, world: World, one: bool) -> tuple[World, int]:
        """Put those who wait back in the queue."""
        count = min(len(world.parked), 1) if one else len(world.parked)
        queue = tuple(sorted((*world.queue, *world.parked[:count])))
        return replace(world, queue=queue, parked=world.parked[count:]), count

    def look(self, world: World) -> World:
        """The first of those who wait comes back by itself."""
        first, *rest = world.parked
        header = tuple(sorted({**dict(first.header), "due": 1}.items()))
        queue = tuple(sorted((*world.queue, replace(first, header=header))))
        return replace(world, queue=queue, parked=tuple(rest))

    def celerys_own(self, world: World, name: str, task_id: str, state: str) -> World:
        """Excuse what comes of the way in which Celery stores states."""
        old = final(world, task_id)
        # The mark by which such a message is dropped does not last for ever.
        is_told = old is not None and old[0] == "FAILURE" and str(old[1]).startswith(NOT_TAKEN)
        is_told = is_told and world.now < START + HERD
        if state == "SUCCESS" and is_told and not {"twice", "stale"} & {*world.excused}:
            raise Violation(f"{nice(task_id)} runs, and its caller was told that it was not sent")
        if state == "RETRY" and old is not None and old[0] != "SUCCESS":
            # The retry was sent, and ended, before the one that sent it stored its own state.
            world = excuse(world, f"lost {task_id}")
        if state == "SUCCESS":
            world = excuse(world, *self.lost_claim(world, name, task_id))
        return world

    def lost_claim(self, world: World, name: str, task_id: str) -> tuple[str, ...]:
        """What a run that has lost its claim may do by its result: everybody sees it, for good."""
        child, claim = child_of(name), self.claims.all[world.claim]
        holder = claim.holder
        if holder is not None and holder.run.startswith(child):
            return ()
        if holder is not None and holder.owner == task_id and holder.state == "running":
            return "stale", "twice"  # the run that has the claim is taken for ended
        if holder is not None and holder.owner == task_id and holder.taker:
            return ("stale",)
        has_run = any(run.token.startswith(child) for run in world.runs)
        beside = any(run.run.startswith(child) for run in claim.beside.values())
        return ("stale",) if has_run and not beside else ()

    def perform_store(
        self, world: World, name: str, operation: Operation, slot: int | None
    ) -> Iterator[tuple[str, World, Any]]:
        line = nice(operation)
        done, answer = self.apply(world, name, operation, place_of(name, slot))
        yield f"{line}: {answer.word} {nice(answer.id)}", done, answer
        if world.budget.store:
            failed = unanswered(spend(world, "store"), operation)
            yield f"{line}: error, not carried out", failed, Raised()
            done, _ = self.apply(unanswered(world, operation), name, operation, None)
            yield f"{line}: error, carried out", spend(done, "store"), Raised()
        if world.budget.late:
            pending = unanswered(spend(world, "late"), operation, late=True)
            late = (*world.late, (operation, name))
            yield f"{line}: error, carried out later", replace(pending, late=late), Raised()

    def with_sight(self, world: World, operation: Operation, answer: Answer) -> Answer:
        """What `seen.lua` and `begin.lua` add to an answer; `world` has the claim after it."""
        if not self.scenario.sees:
            return answer
        if isinstance(operation, Begin):
            run = self.claims.all[world.claim].run_of(operation.task_id)
            unmarked = answer.word == "run" and run is not None and run.unmarked
            return replace(answer, seen=b"") if unmarked else answer
        if isinstance(operation, ClaimCall) and not operation.pinned and answer.word in LOOK:
            return replace(answer, seen=final(world, answer.id) or b"")
        return answer

    def late(self, world: World) -> Moves:
        for place, (operation, name) in enumerate(world.late):
            rest = world.late[:place] + world.late[place + 1 :]
            if isinstance(operation, bool):
                yield "woken late", self.wake(replace(world, late=rest), operation)[0]
                continue
            done, answer = self.apply(replace(world, late=rest), name, operation, None)
            yield f"carried out late: {nice(operation)}: {answer.word}", done

    def apply(
        self, world: World, name: str, operation: Operation, slot: int | None
    ) -> tuple[World, Answer]:
        if self.scenario.sees and isinstance(operation, Begin):
            operation = replace(operation, unmarked=final(world, operation.task_id) is None)
        number, answer = self.claims.step(operation, world.claim, world.now)
        answer = self.with_sight(replace(world, claim=number), operation, answer)
        before, after = self.claims.all[world.claim], self.claims.all[number]
        kept = world.now < self.claims.expiry[world.claim]  # else the store has dropped it before
        if kept and before.holder is not None and before.holder != after.holder:
            self.check_owner(world, name, operation, before.holder)
        world = replace(world, claim=number)
        if any(run.state == "queued" and world.now >= run.until for run in before.beside.values()):
            world = excuse(world, "early")  # a retry that nobody begins counts as lost
        if self.scenario.newest and world.clean:
            world = self.put_off(world, name, operation, answer)
        if isinstance(operation, ClaimCall) and answer.word in ("takeover", "hastened"):
            world = replace(world, taker=name)
        if isinstance(operation, Begin) and answer.word == "run":
            if "twice" not in world.excused:
                self.check_alone(world, operation, answer.gen)
                self.check_only_start(world, operation)
            if self.scenario.unique and not operation.attempt:
                world = replace(world, start=(operation.task_id, world.now))
            if (final(world, operation.task_id) or ("",))[0] == "SUCCESS":
                world = excuse(world, "stale")  # the first result is what everybody sees
            if slot is not None:
                run = Run(
                    token=operation.run,
                    id=operation.task_id,
                    slot=slot,
                    until=world.now + operation.lease,
                    herd=world.now + operation.herd,
                    exclusive=operation.exclusive,
                    gen=answer.gen,
                    value=self.value_of(world, operation),
                )
                runs = (*world.runs, run)
                world = replace(world, runs=runs)
        ends = isinstance(operation, Release) or (
            isinstance(operation, Finish) and operation.failed
        )
        if ends and answer.word == "ok" and operation.task_id == world.start[0]:
            world = replace(world, start=("", 0))
        if isinstance(operation, Renew) and answer.word == "ok":
            # A worker renews what its child runs: it may be a run of which the child did not hear.
            child, until = child_of(name), world.now + operation.lease
            runs = tuple(
                replace(run, until=until) if run.token.startswith(child) else run
                for run in world.runs
            )
            world = replace(world, runs=runs)
        return world, answer

    # Invariants of one move

    def put_off(self, world: World, name: str, operation: Operation, answer: Answer) -> World:
        """A run begins when it is quiet, or late enough, and with what was last said."""
        if isinstance(operation, ClaimCall):
            others = tuple(one for one in world.called if one[0] != name)
            called, due = (*others, (name, world.now)), world.due
            if len(called) == 1 or world.now < due:
                quiet, longest = self.scenario.debounce
                due = min(world.now + quiet, called[0][1] + longest)
            if answer.word == "takeover":
                due = world.now  # it has waited for long enough
            return replace(world, called=called, due=due)
        if not isinstance(operation, Begin) or not world.called:
            return world
        longest = self.scenario.debounce[1]
        first, (newest, last) = world.called[0][1], world.called[-1]
        if answer.word == "wait" and world.now > first + longest:
            raise Violation(f"it starves: the first call was made {world.now - first} ms ago")
        if answer.word != "run":
            return world
        if operation.attempt:
            return world  # who has called meanwhile is served by the run after it
        if world.now < world.due:
            raise Violation(f"{operation.run} begins {world.now - last} ms after the last call")
        if len(world.called) > 1 and answer.arguments != newest:
            raise Violation(f"{operation.run} has the arguments of {answer.arguments}")
        return replace(world, called=(), due=0)

    def check_one_waits(self, world: World) -> None:
        """Beside what runs, no more than one waits."""
        under_way = {run.id for run in world.runs}
        sent = (*world.queue, *world.parked)
        under_way |= {one.id for one in sent if one.retries or final(world, one.id)}
        waiting = {one.id for one in sent} - under_way
        if len(waiting) > 1:
            raise Violation(f"{' and '.join(map(nice, sorted(waiting)))} wait")

    def check_alone(self, world: World, operation: Begin, gen: str) -> None:
        """No two runs hold a live lease at once; if they hold nobody up, no two of one message.

        Nor of one generation: whoever was asked for before a run began is served by it.
        """
        for run in world.runs:
            past_herd = world.now >= run.herd and not run.exclusive
            if self.scenario.starts and run.id != operation.task_id and run.gen != gen:
                continue
            if world.now < run.until and not past_herd and not run.over:
                raise Violation(f"{operation.run} runs beside {run.token}, whose lease is alive")

    def check_only_start(self, world: World, operation: Begin) -> None:
        """After a start there is no other one for a time, unless it has come to nothing."""
        owner, began = world.start
        same = owner == operation.task_id or operation.attempt
        if not owner or same or operation.refresh or "early" in world.excused:
            return
        if world.now < began + self.scenario.unique:
            raise Violation(f"{nice(operation.task_id)} starts after {nice(owner)}, too early")

    def check_owner(self, world: World, name: str, operation: Operation, holder: Holder) -> None:
        """Nobody frees or finishes another's claim."""
        if isinstance(operation, Release) and holder.run == operation.after != "":
            return  # by its retry, which it alone has told its token
        if isinstance(operation, Ending | Finish | Requeue | Renew) or (
            isinstance(operation, Release)
            and holder.state == "running"
            and holder.next != operation.task_id
        ):
            if not holder.run.startswith(child_of(name)) or holder.owner != operation.task_id:
                raise Violation(f"{name} changes the run {holder.run} of {nice(holder.owner)}")
        elif isinstance(operation, Release) and holder.next != operation.task_id:
            if holder.owner != operation.task_id:
                raise Violation(f"{name} frees the claim of {nice(holder.owner)}")
            if holder.taker and world.taker != name and not operation.bare:
                raise Violation(f"{name} frees what {world.taker} has taken over")
        elif isinstance(operation, Lapse) and world.taker != name:
            raise Violation(f"{name} ends the takeover of {world.taker}")


def served(caller: Caller, result: tuple[str, Any] | None) -> Caller:
    """Forget, once its result is final, what it should not have been; a failure may be replaced."""
    if result is None or result[0] != "SUCCESS" or not caller.past:
        return caller
    return replace(caller, past=tuple(value for value in caller.past if value == result[1]))


def place_of(name: str, slot: int | None) -> int:
    """Where a run is: in the slot of a worker, or at a caller."""
    return slot if slot is not None else -1 - int(name[1:])


def put(world: World, where: str, index: int, what: Any) -> World:
    row = list(getattr(world, where))
    row[index] = what
    return replace(world, **{where: tuple(row)})


def spend(world: World, what: str) -> World:
    budget = replace(world.budget, **{what: getattr(world.budget, what) - 1})
    world = excuse(world, "early") if what in UNSURE else world
    if what in FAULTS:  # it does not matter any more who called when
        return replace(world, budget=budget, clean=False, called=(), due=0)
    return replace(world, budget=budget)


def excuse(world: World, *what: str) -> World:
    excused = tuple(sorted({*world.excused, *what}))
    if excused == world.excused:
        return world
    callers = world.callers
    if "stale" in what:
        callers = tuple(replace(caller, past=()) for caller in callers)
    return replace(world, excused=excused, callers=callers)


def unanswered(world: World, operation: Operation, late: bool = False) -> World:
    """The store did not answer this operation."""
    if isinstance(operation, ClaimCall | Begin):
        world = excuse(world, "twice", "lost")  # the call or the message is not shared
        first = isinstance(operation, Begin) and not operation.attempt
        return world if first and not late else excuse(world, "stale")
    if isinstance(operation, Ending | Release):
        return excuse(world, "stale")  # for as long as it takes to store the result
    return world


def without_runs(world: World, slot: int | None) -> World:
    if not any(run.slot == slot for run in world.runs):
        return world
    return replace(world, runs=tuple(run for run in world.runs if run.slot != slot))


def final(world: World, task_id: str) -> tuple[str, Any] | None:
    found = dict(world.results).get(task_id)
    return found if found is not None and found[0] in READY else None


def promised(world: World) -> Iterable[str]:
    """Ids that callers were given."""
    return {caller.id for caller in world.callers if caller.id is not None}


claims_forget = Forget()


@lru_cache(maxsize=None, typed=True)
def nice(what: Any) -> str:
    """Short words for a trace; most are asked for again and again."""
    if what is None:
        return "an error"
    if isinstance(what, Message):
        header = dict(what.header)
        words = [nice(what.id), f"gen {nice(header.get('gen', ''))}"]
        words += [word for word in ("bare", "copy", "refresh") if header.get(word)]
        words += [f"retry {what.retries}"] if what.retries else []
        words += ["redelivered"] if what.redelivered else []
        return f"<{', '.join(words)}>"
    if isinstance(what, Struct):
        fields = {f: getattr(what, f) for f in what.__struct_fields__}
        shown = [f"{f}={nice(v)}" for f, v in fields.items() if v not in ("", 0, False)]
        return f"{type(what).__name__}({', '.join(shown)})"
    if isinstance(what, str) and len(what) == 36 and what.count("-") == 4:
        return bytes.fromhex(what.replace("-", "")).decode("latin-1")[:2]
    if isinstance(what, str) and len(what) == 16:
        return bytes.fromhex(what).decode("latin-1").partition("-")[0]
    if isinstance(what, str) and what[2:3] == "." and len(what) == 15:
        return what[:3] + bytes.fromhex(what[3:]).decode("latin-1").partition("-")[0]
    return str(what)
