"""Every world that can be reached, and the invariants of a world.

`explore` goes breadth first, so a counterexample is short.
"""

from __future__ import annotations

import time
from collections import deque

from msgspec import Struct
from msgspec.structs import replace

from jobtastic_ext.claims.records import MOMENT

from .actors import ACTORS, HERD, LEASE
from .world import Budget, Caller, Model, Scenario, Violation, World, final, nice, promised

#: Faults that nobody notices at once: what they leave behind ends with its time.
SILENT = ("crash", "store", "late", "expire", "copy", "purge", "foreign", "unknown", "wake")


class Report(Struct):
    worlds: int = 0
    moves: int = 0
    seconds: float = 0.0
    #: Whether every reachable world was seen.
    complete: bool = False


class Found(AssertionError):
    """A violation, and how it comes about."""

    def __init__(self, reason: str, trace: list[str]) -> None:
        self.reason, self.trace = reason, trace
        super().__init__("\n  ".join([reason, *trace]))


class Explorer:
    def __init__(self, scenario: Scenario) -> None:
        self.model = Model(scenario)
        self.scenario = scenario
        self._served: set[int] = set()
        # With two more callers, who call when all is quiet.
        callers = (*scenario.callers, (), ())
        self._last = Model(replace(scenario, callers=callers, budget=Budget()))
        self._last.claims = self.model.claims

    def explore(self, seconds: float | None = None, worlds: int | None = None) -> Report:
        """Visit everything, or as much as the limits allow.  Raises `Found`.

        A world in which somebody is at work needs no check of its own: it would begin with a step
        that leads to another world that is visited, and go on as that one's.  Where a limit cuts
        this off, those that were to be visited next are checked.
        """
        report, began = Report(), time.monotonic()
        deadline = began + (seconds or float("inf"))
        start = self.model.start()
        parents = {hash(start): 0}
        waiting: deque[World] = deque([start])
        world = start
        try:
            while waiting and report.worlds != worlds and time.monotonic() < deadline:
                world = waiting.popleft()
                report.worlds += 1
                if not is_busy(world):
                    self.check(world)
                for _, then in self.model.moves(world):
                    report.moves += 1
                    name = hash(then)
                    if name not in parents:
                        parents[name] = hash(world)
                        waiting.append(then)
            for world in waiting:
                if time.monotonic() < deadline:
                    self.check(world)
        except Violation as violation:
            trace = self.trace(parents, world)
            raise Found(str(violation), [*trace, *getattr(violation, "lines", [])]) from None
        report.seconds = time.monotonic() - began
        report.complete = not waiting
        return report

    def trace(self, parents: dict[int, int], last: World) -> list[str]:
        """What has led to a world, worked out once more: to keep it for each takes most memory."""
        names = [hash(last)]
        while parents[names[-1]]:
            names.append(parents[names[-1]])
        lines, world = [], self.model.start()
        for name in names[-2::-1]:
            moves = self.model.moves(world)
            line, world = next(move for move in moves if hash(move[1]) == name)
            lines.append(line)
        return lines

    def check(self, world: World) -> None:
        """One further call leads to a served value, and everybody who has an id is served."""
        lines: list[str] = []
        path: list[int] = []
        full = self.scenario.budget
        try:
            callers = tuple(
                Caller(state="dead") if caller.state == "new" else caller
                for caller in world.callers
            )
            quiet = replace(world, budget=Budget(), callers=callers)
            quiet = self.settle(self.model, quiet, lines, path)
            if quiet is None:
                return
            if world.clean:
                for task_id in promised(quiet):
                    if final(quiet, task_id) is None:
                        raise Violation(
                            f"{nice(task_id)} is never served, though nothing went wrong"
                        )
            self.check_answers(quiet)
            silent = any(getattr(world.budget, name) < getattr(full, name) for name in SILENT)
            for again in (False, True) if silent and self.takes_longer(quiet) else (False,):
                if silent:
                    quiet = self.over(quiet, again)
                    lines.append("time passes until all is over")
                lines.append("one more call is made")
                callers = (*quiet.callers, Caller())
                # Who waits for what is forgotten looks, when its time is over.
                clean = world.budget.forget == full.forget
                called = replace(quiet, callers=callers, clean=clean, called=(), due=0)
                end = self.settle(self._last, called, lines, path)
                if end is None:
                    self._served.update(path)
                    return
                quiet = end
            last = end.callers[-1]
            if last.id is None:
                raise Violation("the last call got an error")
            if self.scenario.unique and (final(called, last.id) or ("",))[0] == "FAILURE":
                raise Violation(f"the last call is given {nice(last.id)}, which had failed")
            for task_id in promised(end):
                excused = {"lost", f"lost {task_id}"} & {*end.excused} and task_id != last.id
                if final(end, task_id) is None and not excused:
                    raise Violation(f"{nice(task_id)} is never served")
            state, value = final(end, last.id) or ("", "")
            fails = "fail" in self.scenario.behaviour.body
            if state != ("FAILURE" if fails else "SUCCESS"):
                raise Violation(f"the last call is served {state} {value}")
            self.check_answers(end)
        except Violation as violation:
            violation.lines = lines  # type: ignore[attr-defined]
            raise
        self._served.update(path)

    def takes_longer(self, world: World) -> bool:
        """Whether somebody may be served by the second of two calls only.

        Of what waits for the end of a dead run it is believed that its message is on its way yet;
        and there is no other start before the time of the last one is over.
        """
        claim = self.model.claims.all[world.claim]
        waits = claim.holder is not None and claim.holder.next != ""
        left = claim.beside or (claim.holder is not None and claim.holder.orphans)
        return waits or (claim.started is not None and bool(left))

    def check_answers(self, world: World) -> None:
        """A call without a cache is not served by a run that was over before it was made."""
        if self.model.all_is_fresh(world):
            return
        for index, caller in enumerate(world.callers):
            if caller.id is None:
                continue
            state, value = final(world, caller.id) or ("", "")
            if state == "SUCCESS" and value in caller.past:
                raise Violation(f"caller {index} was served {value}, which was over when it called")

    def over(self, world: World, again: bool) -> World:
        """Past every lease, and what is believed of a message that nobody has seen.

        Of one that has ended, whoever joins knows after a moment.
        """
        claim = self.model.claims.all[world.claim]
        for run in claim.beside.values():
            if run.until > world.now + LEASE:
                raise Violation(f"nobody looks after {nice(run.owner)} for {run.until} ms")
        last = max((run.until for run in claim.beside.values()), default=0)
        if again and claim.started is not None:
            last = max(last, claim.started.until)
        world = replace(world, now=max(world.now, last))
        holder = claim.holder
        if holder is None or world.now >= holder.until:
            return world
        ended = holder.state == "queued" and final(world, holder.owner) is not None
        if ended and not holder.next:
            return replace(
                world, now=max(world.now, max(holder.at, holder.due, holder.looked) + MOMENT)
            )
        if holder.until > max(world.now, holder.due) + LEASE:
            raise Violation(f"nobody looks after {nice(holder.owner)} for {holder.until} ms")
        return replace(world, now=holder.until)

    def settle(self, model: Model, world: World, lines: list[str], path: list[int]) -> World | None:
        """Let everybody go on, without a fault, until nothing moves; None if that end is known."""
        for _ in range(1000):
            name = hash((world, model is self._last))
            if name in self._served:
                return None
            path.append(name)
            moved = self.go_on(model, world)
            if moved is None:
                return world
            line, world = moved
            lines.append(line)
        raise Violation("it never comes to rest")

    def go_on(self, model: Model, world: World) -> tuple[str, World] | None:
        for index, caller in enumerate(world.callers):
            if caller.state in ("new", "calls"):
                return next(model.step_caller(world, index))
        for index, slot in enumerate(world.slots):
            if slot is not None:
                return next(model.step_slot(world, index, slot))
        if world.late:
            return next(model.late(world))
        if world.queue or not world.parked:
            return self.go_through_queue(model, world)
        if world.clean:
            raise Violation(f"{len(world.parked)} wait, and nobody wakes them")
        return "one who waits looks", model.look(model.wait(world, world.now + HERD))

    def go_through_queue(self, model: Model, world: World) -> tuple[str, World] | None:
        """Deliver the first message that does not only wait; else let time pass."""
        if not world.queue:
            return None
        for line, then in model.deliveries(world):
            after, runs = then, False
            for _ in range(100):
                slot = after.slots[0]
                if slot is None:
                    break
                runs |= getattr(ACTORS.steps[slot.actor], "kind", "") == "body"
                _, after = next(model.step_slot(after, 0, slot))
            # It comes back, or another is woken in its place.
            waits = len(after.queue) >= len(world.queue)
            waits = waits and len(after.parked) >= len(world.parked)
            put_off = any(message.eta for message in after.queue) and after.claim != world.claim
            if runs or not waits or put_off or after.results != world.results:
                return line, then
        moments = model.moments(world)
        if not moments:
            raise Violation(f"{len(world.queue)} messages wait for ever")
        return f"time passes to {moments[0]}", model.wait(world, moments[0])


def is_busy(world: World) -> bool:
    """Whether somebody has begun something, and can go on with it."""
    if any(world.slots):
        return True
    return any(caller.state == "calls" for caller in world.callers)
