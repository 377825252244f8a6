"""Watches the memory of runs: what one run grew, and what is retained from run to run.

One `MemoryWatch` is made in the worker's main process, before the pool forks; in each process it
begins with nothing.  It never fails a run: `watching` logs what goes wrong in here.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from msgspec import Struct

from ..hooks import state_of
from .allocation_sites import Site, add_sites, start_tracing, stop_tracing, top_sites, tracing_mb
from .ledger import IsolatedLedger, Leak, Ledger, SharedLedger
from .meter import Budget, Meter, Reading, imported_mb
from .report import LeakyRun, tell_growth, tell_run, tell_sites
from .shared_table import Entry, SharedTable

logger = logging.getLogger("jobtastic_ext")

#: With `memleak_trace`, one run in so many is traced, and so many after a report without lines.
TRACED, FOLLOWED = 20, 20

#: A task's first runs in a process, in which pages of libraries that come into use do not count.
FIRST = 3

#: The trend on the table is made new once in so many runs.
REFRESH = 8

#: Runs that are remembered as going on, in a process that runs several at once.
ACTIVE = 10_000


#: In place of a reading, for a run that is only noted.
NOTHING = Reading(0.0, 0.0, None)


class Watched(Struct, frozen=True, kw_only=True):
    """What the policy says of one task's memory."""

    #: Where it stands on the table.
    column: int
    #: MB.
    threshold: float
    trend: bool = True
    #: How many call sites to name; 0: none.
    trace: int = 0
    recycle: bool = False


class Begun(Struct):
    """The begin of one run."""

    reading: Reading
    at: float
    modules: int
    #: Tasks that ran at the same time.
    others: set[str]
    serial: int
    traced: bool = False


class TaskState(Struct):
    """What is known of one task in this process."""

    entry: Entry
    runs: int = 0
    #: Runs that are still to be traced because a report could name no line.
    armed: int = 0
    sites: dict[str, Site] = {}


class ProcessState:
    """What is known in one process."""

    def __init__(self, meter: Meter, shared: bool) -> None:
        self.pid = os.getpid()
        self.ledger: Ledger = SharedLedger(meter) if shared else IsolatedLedger(meter)
        self.budget = Budget()
        self.tasks: dict[str, TaskState] = {}
        self.active: dict[int, tuple[str, set[str]]] = {}
        self.serial = 0
        #: The task of the run that is traced.
        self.tracing: str | None = None
        self.lock = threading.Lock()


class MemoryWatch:
    """Measures each run of the watched tasks, and tells what leaks."""

    def __init__(
        self,
        tasks: Mapping[str, Watched],
        table: SharedTable,
        *,
        pool: str | None = None,
        row: Callable[[], int] = lambda: 0,
        replace: Callable[[], bool] | None = None,
        on_report: Callable[[str], object] = lambda name: None,
    ) -> None:
        self._on_report = on_report
        self.tasks = tasks
        self.table = table
        #: The name of a pool whose tasks share a process; None: each has it for itself.
        self.pool = pool
        self._row = row
        #: Asks for a new process after this run; says whether one will come.
        self._replace = replace
        self._meter = Meter()
        self._state = ProcessState(self._meter, pool is not None)

    def begin(self, name: str, request: Any) -> None:
        """A run of any task begins here."""
        state = self._here()
        if state.tracing is not None and self.pool is None:
            self._stop_tracing(state)
        watched = self.tasks.get(name)
        if watched is None and self.pool is None:
            state.ledger.pass_by(name)
            return
        with state.lock:
            others = self._enter(state, name) if self.pool is not None else set()
            if watched is None:
                state_of(request).memory = Begun(NOTHING, 0.0, 0, others, state.serial)
                return
            task = self._task(state, name, watched)
            began = state.budget.start()
            reading = self._meter.read(state.budget.allows() or state.ledger.looks_closely(name))
            state.budget.spent(began)
            if reading.in_use is not None or not self._meter.counts_in_use:
                state.ledger.begin(name, reading)
            else:
                state.ledger.skip(name)
            begun = Begun(reading, time.perf_counter(), len(sys.modules), others, state.serial)
            state_of(request).memory = begun
            if watched.trace:
                begun.traced = self._start_tracing(state, task, name)

    def end(
        self,
        task: Any,
        request: Any,
        args: Any,
        kwargs: Any,
        *,
        ran: bool = True,
        failed: bool = False,
    ) -> None:
        """The run is over.

        `ran` is false if its body was left out, for a shared outcome; `failed` is true if it
        ended with an error or is retried.
        """
        carried, state = state_of(request), self._here()
        begun: Begun | None = carried.memory
        carried.memory = None
        if begun is None:
            return
        self._leave(state, begun)
        watched = self.tasks.get(task.name)
        if watched is None:
            return
        reading, overhead = self._measure(state, task.name, watched, begun, ran, failed)
        if not ran:
            return
        growth = reading.resident - begun.reading.resident - overhead
        known = self._task(state, task.name, watched)
        leak = self._count(state, task.name, watched, known, growth)
        if growth > watched.threshold or leak is not None:
            told = LeakyRun(
                task=task,
                task_id=str(request.id),
                args=args,
                kwargs=kwargs,
                beginning_usage=begun.reading.resident,
                ending_usage=reading.resident,
                growth=growth,
                notes=self._notes(begun),
            )
            reported = self._judge_run(told, watched, known, begun, reading)
            if leak is not None:
                self._tell_trend(told, watched, known, state.ledger.names(task.name), leak)
            if reported or leak is not None:
                self._note_report(task.name, watched, known.entry)
        self.table.write(self._row(), watched.column, known.entry)

    def _measure(
        self,
        state: ProcessState,
        name: str,
        watched: Watched,
        begun: Begun,
        ran: bool,
        failed: bool,
    ) -> tuple[Reading, float]:
        """Read the memory at the end of a run, and what of it tracing takes (MB)."""
        ran_for, began = time.perf_counter() - begun.at, state.budget.start()
        reading = self._meter.read(begun.reading.in_use is not None)
        overhead = tracing_mb() if begun.traced else 0.0
        with state.lock:
            state.budget.ran(ran_for)
            state.budget.spent(began)
            unread = begun.traced or (self._meter.counts_in_use and reading.in_use is None)
            # Tracing leaves traces of its own: such a run is no evidence.
            counts = ran and watched.trend and not begun.traced
            state.ledger.end(name, None if unread else reading, counts, failed)
        if begun.traced and self.pool is not None:
            self._stop_tracing(state)
        return reading, overhead

    def _count(
        self, state: ProcessState, name: str, watched: Watched, known: TaskState, growth: float
    ) -> Leak | None:
        """Add a run to what is known of its task; return the leak that shows with it, if any."""
        entry = known.entry
        known.runs += 1
        entry.runs += 1
        entry.growth += growth
        entry.largest = max(entry.largest, growth)
        with state.lock:
            leak = state.ledger.leak(name) if watched.trend else None
            if leak is not None or known.runs % REFRESH == 0:
                entry.per_run = state.ledger.per_run(name)
        return leak

    def _note_report(self, name: str, watched: Watched, entry: Entry) -> None:
        self._on_report(name)
        entry.reports += 1
        entry.told_at = time.time()
        if watched.recycle and self._replace is not None and self._replace():
            logger.warning(
                "%s: process %d is replaced after this run (memleak_action: recycle)",
                name,
                os.getpid(),
            )

    def close(self) -> None:
        """Let go of what is held in this process."""
        self._state.ledger.close()
        self._meter.close()
        self.table.close()

    def _here(self) -> ProcessState:
        if self._state.pid != os.getpid():
            self._state.ledger.close()  # a callback inherited from the parent
            self._state = ProcessState(self._meter, self.pool is not None)
        return self._state

    def _task(self, state: ProcessState, name: str, watched: Watched) -> TaskState:
        known = state.tasks.get(name)
        if known is None:
            # A child that takes the place of another one goes on with its numbers.
            entry = self.table.read(self._row(), watched.column) or Entry()
            entry.pid, entry.per_run = state.pid, 0.0
            known = state.tasks[name] = TaskState(entry)
        return known

    def _enter(self, state: ProcessState, name: str) -> set[str]:
        others = {other for other, _ in state.active.values()}
        for _, seen in state.active.values():
            seen.add(name)
        state.serial += 1
        state.active[state.serial] = (name, others)
        if len(state.active) > ACTIVE:  # runs that were killed never leave
            del state.active[next(iter(state.active))]
        return others

    def _leave(self, state: ProcessState, begun: Begun) -> None:
        if self.pool is not None:
            with state.lock:
                state.active.pop(begun.serial, None)

    def _notes(self, begun: Begun) -> tuple[str, ...]:
        if self.pool is None:
            return ()
        if begun.others:
            return (
                f"tasks share this process ({self.pool} pool), and at the same time ran "
                f"{', '.join(sorted(begun.others))}: it may be theirs",
            )
        return (f"tasks share this process ({self.pool} pool) with the worker: it may be theirs",)

    def _judge_run(
        self,
        told: LeakyRun,
        watched: Watched,
        known: TaskState,
        begun: Begun,
        reading: Reading,
    ) -> bool:
        """Report a run if it grew by more than its threshold, and no imports may explain it."""
        name, growth = told.task.name, told.growth
        if growth <= watched.threshold:
            return False
        if known.runs <= FIRST and reading.private - begun.reading.private <= watched.threshold:
            return False
        modules = list(sys.modules.values())[begun.modules :]
        imported = min(imported_mb(modules), growth) if modules else 0.0
        if growth - imported <= watched.threshold and imported:
            logger.info(
                "%s[%s] grew its process by %.1f MB while it imported %d modules, which explain "
                "it: no leak (memleak_threshold: %g)",
                name,
                told.task_id,
                growth,
                len(modules),
                watched.threshold,
            )
            return False
        if modules:
            note = f"it imported {len(modules)} modules, which take {imported:.1f} MB at most"
            told.notes += (note,)
        sites = top_sites(known.sites.values(), watched.trace)
        tell_run(told, watched.threshold, sites)
        known.entry.told_growth, known.entry.told_per_run = growth, 0.0
        known.entry.told_runs = 1
        self._arm(watched, known)
        return True

    def _tell_trend(
        self, told: LeakyRun, watched: Watched, known: TaskState, names: set[str], leak: Leak
    ) -> None:
        growth, kind = leak
        sites = top_sites(known.sites.values(), watched.trace)
        tell_growth(told, names, growth, kind.value, sites)
        entry = known.entry
        entry.told_growth, entry.told_runs = growth.total, growth.runs
        entry.told_per_run = growth.per_run
        self._arm(watched, known)

    def _start_tracing(self, state: ProcessState, known: TaskState, name: str) -> bool:
        due = known.armed > 0 or known.runs % TRACED == FIRST
        if not due or state.tracing is not None or not start_tracing():
            return False
        state.tracing = name
        return True

    def _stop_tracing(self, state: ProcessState) -> None:
        name, state.tracing = state.tracing, None
        if name is None:
            return
        known, watched = state.tasks[name], self.tasks[name]
        sites = stop_tracing()
        found = add_sites(known.sites, sites)
        after_report, known.armed = known.armed > 0, max(known.armed - 1, 0)
        if found:
            known.armed = 0
            level = logging.WARNING if after_report else logging.INFO
            tell_sites(name, top_sites(sites, watched.trace), level)

    def _arm(self, watched: Watched, known: TaskState) -> None:
        if watched.trace and not known.sites:
            known.armed = FOLLOWED
