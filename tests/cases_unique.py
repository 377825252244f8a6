"""Cases of the claim protocol, as in `tests.test_claims`: unique until the start, or for a time."""

from __future__ import annotations

from typing import Any

from jobtastic_ext.claims.records import (
    Begin,
    ClaimCall,
    Ending,
    Finish,
    Operation,
    Release,
    Requeue,
)

Case = list[tuple[float, Operation, str]]

#: In milliseconds.
HOLD, LEASE, HERD, TIME = 600_000, 30_000, 60_000, 300_000


def call(name: str, **options: Any) -> ClaimCall:
    return ClaimCall(task_id=name, gen=f"g{name}", **{"hold": HOLD, **options})


def timed(name: str, **options: Any) -> ClaimCall:
    return call(name, unique=TIME, **options)


def begin(name: str, gen: str | None = None, *, starts: bool = True, **options: Any) -> Begin:
    gen = f"g{name}" if gen is None else gen
    fields = {"run": f"{name}.1", "lease": LEASE, "herd": HERD, "since": 1, **options}
    return Begin(task_id=name, gen=gen, starts=starts, **fields)


def once(name: str, gen: str | None = None, **options: Any) -> Begin:
    return begin(name, gen, **{"starts": False, "unique": TIME, **options})


def finish(name: str, run: str = "", **options: Any) -> Finish:
    run = run or f"{name}.1"
    return Finish(
        task_id=name, run=run, gen=f"g{name}", fresh=0, stale=0, keep=HERD, hold=HOLD, **options
    )


QUEUED: Case = [(0, call("a"), "claimed a ga"), (0.5, call("b"), "joined a ga")]
BEGUN: Case = [*QUEUED, (1, begin("a"), "run  ga")]
STARTED: Case = [(0, timed("a"), "claimed a ga"), (1, once("a"), "run  ga")]

UNIQUE: dict[str, Case] = {
    "a start that was granted when another seemed dead is sent again": [
        (0, timed("a"), "claimed a ga"),
        (1, begin("a", unique=TIME), "run  ga"),
        (32, timed("b", hold=60_000), "claimed b gb"),  # the lease is over, but not the run
        (33, Requeue(task_id="a", run="a.1", hold=HOLD, attempt=1), "ok"),
        (34, begin("a", unique=TIME, run="a.2", attempt=1, after="a.1"), "run  ga"),
        (35, finish("a", run="a.2", attempt=1), "ok"),
        (36, timed("c"), "overdue b gb"),
        (93, timed("c"), "takeover b gb"),
    ],
    "start: a run holds nobody up": [
        *BEGUN,
        (2, call("c"), "claimed c gc"),
        (2.5, call("d"), "joined c gc"),
        (3, begin("c"), "run  gc"),
        (4, finish("a"), "ok"),
        (5, finish("c"), "ok"),
    ],
    "start: a second delivery waits, whatever runs and ends beside it": [
        *BEGUN,
        (2, call("c"), "claimed c gc"),
        (3, begin("a", run="a.2"), "follow a ga"),
        (4, begin("c"), "run  gc"),
        (5, begin("a", run="a.2"), "follow a ga"),
        (6, finish("c"), "ok"),
        (7, begin("a", run="a.2"), "follow a ga"),
        (8, finish("a"), "ok"),
        (9, begin("a", run="a.2"), "finished a ga"),
    ],
    "start: it runs again once its run has died": [
        *BEGUN,
        (40, begin("a", run="a.2"), "run  ga"),
        (41, finish("a"), "lost"),
        (42, finish("a", "a.2"), "ok"),
    ],
    "start: the next run serves those whose run has died": [
        *BEGUN,
        (2, call("c"), "claimed c gc"),
        (40, begin("c"), "run  gc"),
        (41, begin("a", run="a.2"), "follow c gc"),
        (42, finish("c"), "ok"),
    ],
    "start: a retry that ends before its own requeue frees the run that sent it": [
        *BEGUN,
        (2, Release(task_id="a", hold=HOLD, after="a.1"), "ok"),
        (3, Requeue(task_id="a", run="a.1", hold=HOLD, attempt=1), "lost"),
    ],
    "start: a retry goes on beside what is queued": [
        *BEGUN,
        (2, Requeue(task_id="a", run="a.1", hold=HOLD, attempt=1), "ok"),
        (3, call("c"), "claimed c gc"),
        (4, begin("a", attempt=1, run="a.2", after="a.1"), "run  ga"),
        (5, begin("a", run="a.3"), "follow a ga"),
        (6, begin("c"), "run  gc"),
        (7, finish("a", "a.2", attempt=1), "ok"),
    ],
    "start: a retry that is revoked is let go": [
        *BEGUN,
        (2, Requeue(task_id="a", run="a.1", hold=HOLD, attempt=1), "ok"),
        (3, Release(task_id="a", hold=HOLD), "ok"),
        (4, begin("a", "", run="a.2"), "run  a.2"),
    ],
    "start: who was asked for before it began follows it": [
        (0, call("a"), "claimed a ga"),
        (1, begin("z", ""), "run  ga"),  # sent by name, and quicker
        (2, begin("a"), "follow z ga"),
        (3, finish("z"), "ok"),
        (4, begin("a"), "reuse z ga"),
    ],
    "start: a part of its group follows it": [
        (0, call("a", group="g", pinned=True), "claimed a ga"),
        (1, begin("a", group="g"), "run  ga"),
        (2, call("b", group="g", pinned=True), "joined a ga"),
        (3, begin("b", "ga", group="g"), "follow a ga"),
        (4, finish("a"), "ok"),
        (5, begin("b", "ga", group="g"), "reuse a ga"),
    ],
    "time: a call gets the run that started": [
        *STARTED,
        (2, timed("b"), "joined a ga"),
        (3, finish("a"), "ok"),
        (200, timed("c"), "ended a ga"),
        (200, timed("c", pinned=True), "joined a ga"),  # settled at the worker
        (201, once("d", ""), "reuse a ga"),
        (300.9, timed("e"), "ended a ga"),
        (301, timed("f"), "claimed f gf"),
    ],
    "time: a policy that says less counts at once": [
        *STARTED,
        (3, finish("a"), "ok"),
        (4, call("b", unique=2_000), "claimed b gb"),
    ],
    "time: a run that has died is served by the next": [
        *STARTED,
        (40, timed("b"), "takeover a ga"),
        (41, once("a", bare=True, run="a.2"), "run  ga"),
    ],
    "time: a failure frees it": [
        *STARTED,
        (2, finish("a", failed=True), "ok"),
        (3, timed("b"), "claimed b gb"),
    ],
    "time: so does a run that is let go": [
        *STARTED,
        (2, Release(task_id="a", hold=HOLD, run="a.1"), "ok"),
        (3, timed("b"), "claimed b gb"),
    ],
    "time: not so one that ends itself without a result": [
        *STARTED,
        (2, Release(task_id="a", hold=HOLD, run="a.1", silent=True), "ok"),
        (3, timed("b"), "started a ga"),
        (300.9, timed("b"), "started a ga"),
        (301, timed("b"), "claimed b gb"),
    ],
    "time: nor one beside which others may run": [
        (0, timed("a"), "claimed a ga"),
        (1, once("a", starts=True, lease=HOLD), "run  ga"),
        (2, Release(task_id="a", hold=HOLD, run="a.1", silent=True), "ok"),
        (3, timed("b"), "started a ga"),
    ],
    "time: a result that is gone frees it": [
        *STARTED,
        (2, finish("a"), "ok"),
        (3, timed("b"), "ended a ga"),
        (4, timed("b", gone="a"), "claimed b gb"),
        (4, timed("c", gone="a"), "joined b gb"),
        (5, once("b"), "run  gb"),
        (6, finish("b"), "ok"),
        (7, timed("d"), "ended b gb"),
    ],
    "time: a failure that a caller has read frees it": [
        *STARTED,
        (2, Ending(task_id="a", run="a.1"), "ok"),
        (3, timed("b"), "started a ga"),
        (4, timed("b", gone="a"), "claimed b gb"),
        (4.5, timed("c"), "joined b gb"),
    ],
    "time: a success does not": [
        *STARTED,
        (2, Ending(task_id="a", run="a.1"), "ok"),
        (3, timed("b", gone="a", well=True), "joined a ga"),
    ],
    "time: a retry is no other start": [
        *STARTED,
        (100, Requeue(task_id="a", run="a.1", hold=HOLD, attempt=1), "ok"),
        (200, once("a", attempt=1, run="a.2", after="a.1"), "run  ga"),
        (210, finish("a", "a.2", attempt=1), "ok"),
        (300.9, timed("b"), "ended a ga"),
        (301, timed("b"), "claimed b gb"),
    ],
    "time: a new run that is asked for starts": [
        *STARTED,
        (2, finish("a"), "ok"),
        (3, timed("b", refresh=True), "claimed b gb"),
        (3.5, timed("c"), "joined b gb"),
        (5, once("b", refresh=True), "run  gb"),
        (6, finish("b"), "ok"),
        (304, timed("d"), "ended b gb"),
    ],
    "time and start: only the time counts": [
        (0, timed("a"), "claimed a ga"),
        (1, once("a", starts=True, lease=HOLD), "run  ga"),
        (2, timed("b"), "joined a ga"),
        (3, once("c", "", starts=True), "follow a ga"),
        (301, timed("d"), "claimed d gd"),
        (302, once("d", starts=True), "run  gd"),
        (303, finish("a"), "ok"),
        (304, timed("e"), "joined d gd"),
    ],
}
