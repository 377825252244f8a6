"""The claim protocol, case by case: who calls or begins when, and what each is answered.

A case is a list of ``(time in seconds, operation, answer)``; an answer is ``"word id generation"``.
A task ``a`` that claims does so with generation ``ga``, and runs with the token ``a.1``.
"""

from __future__ import annotations

import math
from functools import partial
from itertools import pairwise
from typing import Any

import pytest

from jobtastic_ext.claims.lifetime import expiry, prune
from jobtastic_ext.claims.records import (
    EMPTY,
    FOREVER,
    LINGER,
    MOST_MARKS,
    MOST_ORPHANS,
    Begin,
    Claim,
    ClaimCall,
    Ending,
    Finish,
    Forget,
    Lapse,
    Operation,
    Release,
    Renew,
    Requeue,
)
from jobtastic_ext.claims.rules import step
from tests.cases_unique import UNIQUE

#: In seconds: how long a message may wait, a lease, the longest run to wait for.
HOLD, LEASE, HERD = 600, 30, 60


def ms(seconds: float) -> int:
    return min(int(seconds * 1000), FOREVER)


def call(name: str, **options: Any) -> ClaimCall:
    return ClaimCall(
        task_id=name, **{"gen": f"g{name}", "hold": ms(options.pop("hold", HOLD)), **options}
    )


def begin(name: str, gen: str = "", **options: Any) -> Begin:
    lease, herd = ms(options.pop("lease", LEASE)), ms(options.pop("herd", HERD))
    run = options.pop("run", f"{name}.1")
    return Begin(task_id=name, run=run, gen=gen, lease=lease, herd=herd, **options)


def finish(
    name: str, fresh: float = 0, stale: float = 0, keep: float = 0, **options: Any
) -> Finish:
    options = {"run": f"{name}.1", "gen": f"g{name}", "hold": ms(HOLD), **options}
    return Finish(task_id=name, fresh=ms(fresh), stale=ms(stale), keep=ms(keep), **options)


def release(name: str, give_up: float = 0, **options: Any) -> Release:
    return Release(task_id=name, hold=ms(HOLD), give_up=ms(give_up), **options)


def requeue(name: str, attempt: int, run: str = "") -> Requeue:
    return Requeue(task_id=name, run=run or f"{name}.1", hold=ms(HOLD), attempt=attempt)


def lapse(name: str, by: str) -> Lapse:
    return Lapse(task_id=name, gen=f"g{by}")


def renew(name: str, run: str = "") -> Renew:
    return Renew(task_id=name, run=run or f"{name}.1", lease=ms(LEASE))


def late(name: str, **options: Any) -> ClaimCall:
    """A call that is due after 5 s of quiet, or 20 s after the first one."""
    times = {"debounce": ms(5), "debounce_max": ms(20)}
    return call(name, hold=30, buffer=True, **times, **options)


def comes(name: str, gen: str = "", calls: bool = False, **options: Any) -> Begin:
    """Its message has come; one of beat's `calls`, as the caller of others has."""
    times = {"debounce": ms(5), "debounce_max": ms(20)} if calls else {}
    options = {"herd": 9e9, "refresh": True, "heed": True, **times, **options}
    return begin(name, gen, **options)


RAN = [
    (0, call("a"), "claimed a ga"),
    (1, begin("a", "ga"), "run  ga"),
]
CACHED = [*RAN, (2, finish("a", fresh=100), "ok")]
KEPT = [*RAN, (2, finish("a", fresh=10, stale=100), "ok")]

#: In time: a run has died, and what waits for its end is due a little later.
DIED: list[tuple[float, Operation, str]] = [
    (0, late("a"), "claimed a ga"),
    (5, comes("a", "ga"), "run  ga"),
    (30, late("b"), "buffered b gb"),
    (34, late("c"), "joined b gb"),
]

#: A refresh has outrun a message that was to come in hours.
OUTRUN: list[tuple[float, Operation, str]] = [
    (0, late("a", countdown=ms(20_000)), "claimed a ga"),
    (1, late("b", refresh=True), "hastened a ga"),
    (2, comes("a", "ga", bare=True), "run  ga"),
]

CASES: dict[str, list[tuple[float, Operation, str]]] = {
    # At the caller: a plain call
    "a free key is claimed": [(0, call("a"), "claimed a ga")],
    "while the message waits, others join": [
        (0, call("a"), "claimed a ga"),
        (0.9, call("b"), "joined a ga"),
    ],
    "and look, after a moment, whether it has ended in a worker that tells nobody": [
        (0, call("a"), "claimed a ga"),
        (1, call("b"), "overdue a ga"),
        (1, call("c", pinned=True), "joined a ga"),  # it is published, and settled at the worker
        (1, call("b", gone="a"), "claimed b gb"),
        (2, begin("c", "ga"), "reuse a ga"),
    ],
    "one of them in each moment": [
        (0, call("a"), "claimed a ga"),
        (1, call("b"), "overdue a ga"),
        (1.9, call("c"), "joined a ga"),
        (2, call("d"), "overdue a ga"),
    ],
    "while it runs, others join": [*RAN, (2, call("b"), "joined a ga")],
    "and look, where its end need not be said": [
        (0, call("a"), "claimed a ga"),
        (1, begin("a", "ga", unmarked=True), "run  ga"),
        (2, call("b"), "unmarked a ga"),
        (2, call("c", buffer=True), "buffered c gc"),
        (3, call("d", buffer=True), "joined c gc"),
        (3, call("e"), "joined c gc"),
        (70, call("f", buffer=True), "joined c gc"),
    ],
    "a result is reused": [*CACHED, (101, call("b"), "cached a ga")],
    "not longer than it is fresh": [*CACHED, (102, call("b"), "claimed b gb")],
    "a result for ever": [
        *RAN,
        (2, finish("a", fresh=9e12), "ok"),
        (9e9, call("b"), "cached a ga"),
    ],
    "without a cache the next call runs": [
        *RAN,
        (2, finish("a"), "ok"),
        (3, call("b"), "claimed b gb"),
    ],
    "a result that is gone is taken over": [*CACHED, (3, call("b", gone="a"), "claimed b gb")],
    "gone is about one result only": [*CACHED, (3, call("b", gone="x"), "cached a ga")],
    "what is over, and can be read, serves as long as it is fresh": [
        *CACHED,
        (3, call("b", gone="a", readable=True), "cached a ga"),
        (102, call("b", gone="a", readable=True), "claimed b gb"),
    ],
    "a dead run is published anew under its id": [
        *RAN,
        (31, call("b"), "takeover a ga"),
        (32, call("c"), "overdue a ga"),  # it looks whether the run has ended after all
        (33, begin("a", "ga", run="a.2"), "run  ga"),
        (34, finish("a", run="a.2", fresh=100), "ok"),
        (35, call("d"), "cached a ga"),
    ],
    "so is a lost message": [(0, call("a"), "claimed a ga"), (600, call("b"), "takeover a ga")],
    "again only after twice the time: it may wait in a long queue": [
        (0, call("a", hold=30), "claimed a ga"),
        (30, call("b", hold=30), "takeover a ga"),
        (59, call("b", hold=30), "overdue a ga"),
        (60, call("b", hold=30), "takeover a ga"),
        (119, call("b", hold=30), "overdue a ga"),
        (120, call("b", hold=30), "takeover a ga"),
        (121, begin("a", "ga", bare=True), "run  ga"),
        (122, requeue("a", 1), "ok"),
        (123, begin("a", "ga", run="a.2", attempt=1), "run  ga"),
    ],
    "but once an hour at least": [
        (0, call("a", hold=30), "claimed a ga"),
        *[(30 * 2**n, call("b", hold=30), "takeover a ga") for n in range(8)],
        (3840 + 3600, call("b", hold=30), "takeover a ga"),
    ],
    "but not a message that expired by itself": [
        (0, call("a", expires=60_000), "claimed a ga"),
        (600, call("b"), "claimed b gb"),
    ],
    "a takeover that was not published is tried again": [
        *RAN,
        (31, call("b"), "takeover a ga"),
        (32, lapse("a", by="b"), "ok"),
        (33, call("c"), "takeover a ga"),
    ],
    "a run that has begun does not lapse": [*RAN, (2, lapse("a", by="a"), "lost")],
    "nobody lapses for another": [(0, call("a"), "claimed a ga"), (1, lapse("b", by="b"), "lost")],
    "a takeover is ended by nobody else": [
        *RAN,
        (31, call("b"), "takeover a ga"),
        (631, call("c"), "takeover a ga"),  # the first one's message is lost, it seems
        (632, lapse("a", by="b"), "lost"),
        (633, call("d"), "overdue a ga"),
        (634, lapse("a", by="c"), "ok"),
    ],
    "nor by one that was made and ended in the same moment": [
        *RAN,
        (31, call("b"), "takeover a ga"),
        (31, lapse("a", by="b"), "ok"),  # nobody heard the answer, and it is said again
        (31, call("c"), "takeover a ga"),
        (31, lapse("a", by="b"), "lost"),
    ],
    "the first message of a takeover frees nothing": [
        (0, call("a"), "claimed a ga"),
        (600, call("b"), "takeover a ga"),
        (601, release("a"), "lost"),  # it has expired, and the copy has not
        (602, call("c"), "overdue a ga"),
        (603, release("a", bare=True), "ok"),  # the copy was revoked
        (604, call("c"), "claimed c gc"),
    ],
    "who joined a run that was taken for dead looks whether it has ended": [
        *RAN,
        (31, call("b"), "takeover a ga"),
        (32, call("c"), "overdue a ga"),
        (33, call("c", gone="a"), "claimed c gc"),
    ],
    "what could not be sent leaves alone the run that it displaced": [
        (0, call("a"), "claimed a ga"),
        (1, begin("a", "ga", lease=300), "run  ga"),
        (61, call("b"), "claimed b gb"),  # past its herd
        (62, release("b", gen="gb", give_up=60), "ok"),
        (63, call("c"), "claimed c gc"),  # and not a once more, beside itself
    ],
    "a forgotten claim is not taken over": [
        *RAN,
        (31, Forget(), "ok"),
        (32, call("b"), "claimed b gb"),
    ],
    "the same id sent anew joins itself": [
        (0, call("a"), "claimed a ga"),
        (1, call("a", gen="g2"), "joined a ga"),
    ],
    "and after its end runs anew": [*CACHED, (3, call("a", gen="g2"), "claimed a g2")],
    "no herd avoidance, nothing cached": [(0, call("a", hold=0), "free a ga")],
    "no herd avoidance, cached": [*CACHED, (3, call("b", hold=0), "cached a ga")],
    "no herd avoidance does not look at runs": [*RAN, (3, call("b", hold=0), "free b gb")],
    # At the caller: a pinned call, which is published whatever the answer
    "pinned: claims": [(0, call("a", pinned=True), "claimed a ga")],
    "pinned: is told the generation it will share": [
        *RAN,
        (2, call("b", pinned=True), "joined a ga"),
    ],
    "pinned: is told of a cached result": [*CACHED, (3, call("b", pinned=True), "cached a ga")],
    "pinned: leaves a dead run's id to the worker": [
        *RAN,
        (31, call("b", pinned=True), "joined a ga"),
        (32, begin("b", "ga"), "run  ga"),
    ],
    # At the worker
    "nobody claimed": [(0, begin("a"), "run  a.1")],
    "queued under any id": [(0, call("a"), "claimed a ga"), (1, begin("b"), "run  ga")],
    "running elsewhere": [*RAN, (2, begin("b"), "follow a ga")],
    "a follower takes the value, cached or not": [
        *RAN,
        (2, begin("b"), "follow a ga"),
        (3, finish("a"), "ok"),
        (4, begin("b", "ga"), "reuse a ga"),
        (3600, begin("c", "ga"), "reuse a ga"),
        (3700, begin("d", "ga"), "run  ga"),
    ],
    "a follower of a failed run runs itself": [
        *RAN,
        (2, begin("b"), "follow a ga"),
        (3, release("a", run="a.1"), "ok"),
        (4, begin("b", "ga"), "run  ga"),
    ],
    "a pinned call shares a run that ends before it arrives": [
        *RAN,
        (2, call("b", pinned=True), "joined a ga"),
        (3, finish("a"), "ok"),
        (4, begin("b", "ga"), "reuse a ga"),
        (4, begin("x", "gx"), "run  gx"),
    ],
    "a result is reused by a message from outside": [*CACHED, (3, begin("b"), "reuse a ga")],
    "a result that is gone is not": [*CACHED, (3, begin("b", gone="a"), "run  b.1")],
    "a dead run is followed by whoever comes": [*RAN, (31, begin("b"), "run  ga")],
    "after the herd's time nobody waits": [
        *RAN,
        *[(t, renew("a"), "ok a.1") for t in (20, 40, 59)],
        (61, begin("b"), "run  ga"),
        (62, finish("a", fresh=100), "lost"),
        (63, finish("b", fresh=100), "ok"),
        (64, call("c"), "cached b ga"),
    ],
    "a second delivery follows": [*RAN, (2, begin("a", "ga", run="a.2"), "follow a ga")],
    "a second delivery after the end is a late copy": [
        *CACHED,
        (3, begin("a", "ga", run="a.2"), "finished a ga"),
        (500, begin("a", "ga", run="a.2"), "finished a ga"),
    ],
    "of a dead run it runs": [*RAN, (31, begin("a", "ga", run="a.2"), "run  ga")],
    "begin can be repeated": [*RAN, (2, begin("a", "ga"), "run  ga")],
    "no herd avoidance at the worker": [(0, begin("a", "ga", lease=0), "free a ga")],
    "no herd avoidance at the worker, cached": [*CACHED, (3, begin("b", lease=0), "reuse a ga")],
    "and its result is recorded": [
        (0, begin("a", "ga", lease=0), "free a ga"),
        (1, finish("a", fresh=100, unclaimed=True), "ok"),
        (2, call("b"), "cached a ga"),
    ],
    "a message of an older generation leaves the run to those who are asked": [
        (0, call("a"), "claimed a ga"),
        (1, begin("x", "gx"), "follow a ga"),
        (2, begin("a", "ga"), "run  ga"),
        (3, finish("a", keep=60), "ok"),
        (4, begin("x", "gx", since=ms(1)), "reuse a ga"),
    ],
    "what ended after the call serves it, whatever the generation": [
        *RAN,
        (2, call("b", pinned=True), "joined a ga"),
        (3, finish("a", keep=60), "ok"),
        (4, call("c"), "claimed c gc"),
        (5, begin("c", "gc"), "run  gc"),
        (6, finish("c", keep=60, gen="gc"), "ok"),
        (7, begin("b", "ga", since=ms(2)), "reuse c gc"),
        (8, begin("d", "gd", since=ms(7)), "run  gd"),
    ],
    "nor without herd avoidance, by which nothing is shared but a cached result": [
        (0, begin("a", "ga", lease=0), "free a ga"),
        (2, finish("a", keep=60, unclaimed=True), "ok"),
        (3, begin("b", "gb", lease=0, since=ms(1)), "free b gb"),
    ],
    # The store's clock counts whole milliseconds: `get()` and the next call can fit into one.
    "not even what ended in the very millisecond of the call": [
        *RAN,
        (2, finish("a", keep=60), "ok"),
        (2, call("b"), "claimed b gb"),
        (3, begin("b", "gb", since=ms(2)), "run  gb"),
    ],
    "but not a call that asked for a new run": [
        *RAN,
        (2, call("b", refresh=True), "buffered b gb"),
        (3, finish("a", keep=60), "ok"),
        (4, begin("b", "gb", since=ms(2), refresh=True), "run  gb"),
    ],
    "a run that outlives the herd's time is left alone": [
        *RAN,
        *[(t, renew("a"), "ok a.1") for t in (20, 40, 59)],
        (61, call("b"), "claimed b gb"),
        (62, finish("a", fresh=100), "lost"),
        (63, begin("b", "gb"), "run  gb"),
        (64, finish("b", fresh=100), "ok"),
        (65, call("c"), "cached b gb"),
    ],
    "a refresh waits for it all the same": [
        *RAN,
        *[(t, renew("a"), "ok a.1") for t in (20, 40, 59)],
        (61, call("b", refresh=True), "buffered b gb"),
        (62, call("c"), "joined b gb"),
        (63, begin("b", "gb", refresh=True), "run  gb"),
    ],
    "a result that proves to be final is not waited for": [
        *RAN,
        (31, call("b"), "takeover a ga"),
        (31, call("b", gone="a"), "claimed b gb"),
    ],
    "at the end of a run callers look whether its outcome is known": [
        *RAN,
        (2, Ending(task_id="a", run="a.1"), "ok"),
        (2, call("b"), "ending a ga"),
        (2, call("c", pinned=True), "joined a ga"),
        (2, call("b", gone="a"), "claimed b gb"),
        (3, finish("a"), "lost"),
        (4, begin("c", "ga"), "reuse a ga"),
    ],
    "nobody ends a run for another": [*RAN, (2, Ending(task_id="a", run="a.2"), "lost")],
    "a run that goes on is not given up": [*RAN, (2, call("b", gone="a"), "joined a ga")],
    "a message that expires is not joined by a call that does not": [
        (0, call("a", hold=10, expires=10_000), "claimed a ga"),
        (1, call("b", hold=5, expires=5_000), "overdue a ga"),
        (2, call("c"), "claimed c gc"),
        (3, begin("a", "ga"), "follow c gc"),
    ],
    "but by one that expires a little later, and past its half time there are two messages": [
        (0, call("a", hold=30, expires=60_000), "claimed a ga"),
        (29, call("b", hold=30, expires=60_000), "overdue a ga"),
        (29, call("b", hold=30, expires=20_000), "joined a ga"),
        (30, call("b", hold=30, expires=60_000), "free b ga"),
        (31, call("c", hold=30, expires=40_000), "takeover a ga"),
        (59, call("d", hold=30, expires=60_000), "free d ga"),
        (60, begin("b", "ga"), "run  ga"),
        (61, call("d", hold=30, expires=60_000), "joined b ga"),
    ],
    "what expires does not keep the claim": [
        (0, call("a", hold=30, expires=60_000), "claimed a ga"),
        (60, call("b", hold=30, expires=60_000), "claimed b gb"),
    ],
    "a task that returned and yet retried runs": [
        *CACHED,
        (3, begin("a", "ga", run="a.2", attempt=1), "run  ga"),
    ],
    "a message for the callers of a dead run does not use up the first one's callbacks": [
        *RAN,
        (31, call("b"), "takeover a ga"),
        (32, begin("a", "ga", run="a.2", bare=True), "run  ga"),
        (33, finish("a", run="a.2", keep=60), "ok"),
        (34, begin("a", "ga", run="a.3"), "reuse a ga"),
        (35, begin("a", "ga", run="a.4"), "finished a ga"),
    ],
    "an id that is sent again by name runs again": [
        *RAN,
        (2, finish("a", keep=60), "ok"),
        (3, begin("a", run="a.2"), "run  a.2"),
    ],
    "unless the broker says that it is the same message": [
        (0, begin("a"), "run  a.1"),
        (2, finish("a", keep=60), "ok"),
        (3, begin("a", run="a.2", redelivered=True), "finished a a.1"),
    ],
    "a first message waits for the retry of a copy that was made for others": [
        (0, call("a", pinned=True), "claimed a ga"),
        (600, call("b"), "takeover a ga"),
        (601, begin("a", "ga", bare=True), "run  ga"),
        (602, requeue("a", 1), "ok"),
        (603, begin("a", "ga", run="a.2"), "follow a ga"),
    ],
    "what is known to have ended serves its own generation only": [
        *RAN,
        (2, call("b", pinned=True), "joined a ga"),
        (3, Ending(task_id="a", run="a.1"), "ok"),
        (4, call("c", gone="a"), "claimed c gc"),
        (5, begin("c", "gc", since=ms(4)), "run  gc"),
        (6, begin("b", "ga", since=ms(2)), "reuse a ga"),
    ],
    "a refresh that is lost is served by the run that takes over": [
        *RAN,
        (2, call("b", refresh=True), "buffered b gb"),
        (31, call("c"), "takeover a ga"),
        (32, call("d"), "overdue a ga"),
    ],
    "a refresh leaves to others what they wait for": [
        *RAN,
        (2, call("b", pinned=True), "joined a ga"),
        (3, finish("a", fresh=100, keep=60), "ok"),
        (4, call("c", refresh=True), "claimed c gc"),
        (5, begin("b", "ga", since=ms(2)), "reuse a ga"),
        (6, begin("c", "gc", refresh=True, since=ms(4)), "run  gc"),
    ],
    "a copy of a run whose claim another has taken leaves it to that one": [
        (0, begin("a"), "run  a.1"),
        *[(t, renew("a"), "ok a.1") for t in (20, 40, 59)],
        (61, call("b"), "claimed b gb"),
        (62, begin("a", run="a.2"), "follow b gb"),
    ],
    # on_duplicate: serialize
    "serialize: never two at once": [
        (0, begin("a", exclusive=True), "run  a.1"),
        (1, begin("b", exclusive=True), "follow a a.1"),
        (2, finish("a", gen="a.1"), "ok"),
        (3, begin("b", "a.1", exclusive=True), "run  a.1"),
    ],
    "serialize: however long it takes": [
        (0, begin("a", exclusive=True), "run  a.1"),
        *[(t, renew("a"), "ok a.1") for t in (20, 40, 60)],
        (70, begin("b", exclusive=True), "follow a a.1"),
    ],
    # The end of a run
    "a release lets the next call run": [
        (0, call("a"), "claimed a ga"),
        (1, release("a"), "ok"),
        (2, call("b"), "claimed b gb"),
    ],
    "nobody releases for another": [
        (0, call("a"), "claimed a ga"),
        (0, release("b"), "lost"),
        (0, call("b"), "joined a ga"),
    ],
    "a sender does not release what runs": [
        *RAN,
        (2, release("a"), "lost"),
        (3, call("b"), "joined a ga"),
    ],
    "a run does not release another run": [*RAN, (2, release("a", run="a.2"), "lost")],
    "a worker releases the run of its child": [
        (0, begin("a", run="host.77.3"), "run  host.77.3"),
        (1, release("a", run="host.7."), "lost"),
        (2, release("a", run="host.77."), "ok"),
    ],
    "a late finish changes nothing": [
        *RAN,
        (31, begin("b"), "run  ga"),
        (32, finish("a", fresh=100), "lost"),
        (33, call("c"), "joined b ga"),
    ],
    "a finish without any claim is lost": [(0, finish("a", fresh=100), "lost")],
    "a renewal keeps the claim": [
        *RAN,
        (29, renew("a"), "ok a.1"),
        (58, call("b"), "joined a ga"),
        (59, call("b"), "takeover a ga"),
    ],
    "a renewal that comes too late": [*RAN, (31, begin("b"), "run  ga"), (32, renew("a"), "lost")],
    "a failure is not shared": [
        *RAN,
        (2, finish("a", failed=True), "ok"),
        (3, call("b"), "claimed b gb"),
    ],
    "unless the policy says so": [
        *RAN,
        (2, finish("a", fresh=10, failed=True), "ok"),
        (3, call("b"), "cached a ga"),
        (12, call("b"), "claimed b gb"),
    ],
    "its late copy finds the failure": [
        *RAN,
        (2, finish("a", fresh=10, failed=True), "ok"),
        (3, begin("a", "ga", run="a.2"), "reuse a ga"),
    ],
    # Retries
    "a retry keeps the claim": [
        *RAN,
        (2, requeue("a", 1), "ok"),
        (3, call("b"), "overdue a ga"),
        (4, begin("a", "ga", run="a.2", attempt=1), "run  ga"),
        (5, finish("a", run="a.2", fresh=100), "ok"),
        (6, call("c"), "cached a ga"),
    ],
    "others follow it while it waits": [
        *RAN,
        (2, requeue("a", 1), "ok"),
        (3, begin("b"), "follow a ga"),
    ],
    "a copy of an earlier attempt is dropped": [
        *RAN,
        (2, requeue("a", 1), "ok"),
        (3, begin("a", "ga", run="a.2"), "dropped a ga"),
    ],
    "a retry does not take the place of a run that is not its own": [
        *RAN,
        (2, requeue("a", 1), "ok"),
        (602, call("b"), "takeover a ga"),
        (603, begin("a", "ga", run="a.2"), "run  ga"),
        (604, begin("a", "ga", run="a.3", attempt=1, after="a.1"), "follow a ga"),
    ],
    "a retry that overtakes its own requeue runs": [
        *RAN,
        (2, begin("a", "ga", run="a.2", attempt=1, after="a.1"), "run  ga"),
    ],
    "a retry that ends before its own requeue frees the run that sent it": [
        *RAN,
        (2, release("a", after="a.2"), "lost"),
        (3, release("a", after="a.1"), "ok"),  # its id has its result by then: it was dropped
        (4, requeue("a", 1), "lost"),
        (5, call("b"), "claimed b gb"),
    ],
    "who lost the claim does not requeue": [
        *RAN,
        (31, begin("b"), "run  ga"),
        (32, requeue("a", 1), "lost"),
    ],
    # stale-while-revalidate
    "stale: served, and the first refreshes": [
        *KEPT,
        (13, call("b"), "refresh a ga"),
        (14, call("c"), "stale a ga"),
        (15, begin("b", "gb"), "run  gb"),
        (16, call("c"), "stale a ga"),
        (17, finish("b", fresh=10, stale=100), "ok"),
        (18, call("c"), "cached b gb"),
    ],
    "stale: without herd avoidance each call refreshes": [
        *KEPT,
        (13, call("b", hold=0), "refresh a ga"),
        (13, call("c", hold=0), "refresh a ga"),
    ],
    "stale: a refresh that failed leaves the old result": [
        *KEPT,
        (13, call("b"), "refresh a ga"),
        (14, begin("b", "gb"), "run  gb"),
        (15, finish("b", failed=True), "ok"),
        (16, call("c"), "refresh a ga"),
    ],
    "stale: it ends": [*KEPT, (112, call("b"), "claimed b gb")],
    "stale: a pinned call runs": [
        *KEPT,
        (13, call("b", pinned=True), "claimed b gb"),
        (14, begin("b", "gb"), "run  gb"),
    ],
    # refresh=True
    "refresh: replaces what is cached": [
        *CACHED,
        (3, call("b", refresh=True), "claimed b gb"),
        (4, call("c"), "overdue b gb"),
    ],
    "refresh: joins what has not begun": [
        (0, call("a"), "claimed a ga"),
        (0.5, call("b", refresh=True), "joined a ga"),
    ],
    "refresh: runs after what runs now": [
        *RAN,
        (2, call("b", refresh=True), "buffered b gb"),
        (3, call("c", refresh=True), "joined b gb"),
        (4, call("d"), "joined b gb"),
        (5, begin("b", "gb", refresh=True), "follow a ga"),
        (6, finish("a", fresh=100), "ok"),
        (7, call("e"), "overdue b gb"),
        (8, begin("b", "gb"), "run  gb"),
        (9, finish("b", fresh=100), "ok"),
        (10, call("f"), "cached b gb"),
    ],
    "refresh: runs also after a failure": [
        *RAN,
        (2, call("b", refresh=True), "buffered b gb"),
        (3, release("a", run="a.1"), "ok"),
        (4, call("c"), "overdue b gb"),
        (5, begin("b", "gb"), "run  gb"),
    ],
    "refresh: waits for the retries of another one, and runs also after their failure": [
        (0, call("a", buffer=True), "claimed a ga"),
        (1, begin("a", "ga", refresh=True), "run  ga"),
        (2, call("b", buffer=True), "buffered b gb"),
        (3, begin("b", "gb", refresh=True, since=ms(2)), "follow a ga"),
        (4, requeue("a", 1), "ok"),
        (5, begin("a", "ga", refresh=True, attempt=1, run="a.2", after="a.1"), "run  ga"),
        (6, call("c", buffer=True), "joined b gb"),
        (7, finish("a", run="a.2", attempt=1, failed=True), "ok"),
        (8, begin("b", "gb", refresh=True, since=ms(2)), "run  gb"),
    ],
    "refresh: one that was not sent leaves its place": [
        *RAN,
        (2, call("b", refresh=True), "buffered b gb"),
        (3, release("b", give_up=60, gen="gb"), "ok"),
        (4, call("c"), "joined a ga"),
        (5, finish("a", fresh=100), "ok"),
        (6, call("d"), "cached a ga"),
    ],
    # A publish that failed
    "given up: a message that arrives after all is dropped": [
        (0, call("a"), "claimed a ga"),
        (1, release("a", give_up=60, gen="ga"), "ok"),
        (2, begin("a", "ga"), "dropped a ga"),
        (3, call("b"), "claimed b gb"),
        (4, begin("b", "gb"), "run  gb"),
        (5, begin("a", "ga"), "dropped a ga"),
        (33, release("b", run="b.1"), "ok"),
        (61, begin("a", "ga"), "run  ga"),
    ],
    "given up: the same id sent anew is not": [
        (0, call("a"), "claimed a ga"),
        (1, release("a", give_up=60, gen="ga"), "ok"),
        (2, call("a", gen="g2"), "claimed a g2"),
        (3, begin("a", "g2"), "run  g2"),
    ],
    "given up: not once a worker has it": [
        *RAN,
        (2, release("a", give_up=60, gen="ga"), "lost"),
        (3, requeue("a", 1), "ok"),
        (4, release("a", give_up=60, gen="ga"), "lost"),
        (5, begin("a", "ga", run="a.2", attempt=1), "run  ga"),
    ],
    "given up: not once another caller has sent it again": [
        (0, call("a"), "claimed a ga"),
        (600, call("b"), "takeover a ga"),
        (601, release("a", give_up=60, gen="ga"), "lost"),
        (602, begin("a", "ga"), "run  ga"),
    ],
    # forget()
    "given up: it runs at its sender, and the message is dropped": [
        (0, call("a"), "claimed a ga"),
        (1, begin("a", "ga", give_up=ms(60)), "run  ga"),
        (2, begin("a", "ga", run="a.2"), "dropped a ga"),
        (3, call("b"), "joined a ga"),
        (4, finish("a", failed=True), "ok"),
        (5, begin("a", "ga", run="a.2"), "dropped a ga"),
        (6, call("b"), "claimed b gb"),
    ],
    "given up: nor what another has hastened": [
        (0, late("a"), "claimed a ga"),
        (1, late("b", refresh=True), "hastened a ga"),
        (2, release("a", give_up=60, gen="ga"), "lost"),
    ],
    "what was hastened and could not be published is sent by the next caller": [
        (0, late("a"), "claimed a ga"),
        (1, late("b", refresh=True), "hastened a ga"),
        (2, lapse("a", by="c"), "lost"),
        (2, lapse("a", by="b"), "ok"),
        (3, late("c"), "takeover a ga"),
    ],
    "given up: not if the message has arrived": [*RAN, (2, begin("a", "ga", give_up=9), "lost")],
    "given up: nor if it has run": [*CACHED, (3, begin("a", "ga", give_up=9), "lost")],
    "given up: nor if another caller has sent it": [
        (0, call("a"), "claimed a ga"),
        (600, call("b"), "takeover a ga"),
        (601, begin("a", "ga", give_up=9), "lost"),
    ],
    "given up: a message that held no claim shares what runs": [
        *RAN,
        (2, begin("b", "gb", give_up=ms(60), unclaimed=True), "follow a ga"),
        (3, begin("b", "gb"), "dropped b gb"),
    ],
    "given up: not if a message that holds no claim has arrived": [
        (0, begin("a", "ga", lease=0, arrival=ms(60)), "free a ga"),
        (1, begin("a", "ga", give_up=ms(60), unclaimed=True), "lost"),
        (2, release("a", give_up=60, gen="ga", unclaimed=True), "lost"),
        (61, release("a", give_up=60, gen="ga", unclaimed=True), "ok"),
    ],
    "given up: not what another caller has sent again under the same id": [
        (0, call("a"), "claimed a ga"),
        (600, call("b"), "takeover a ga"),
        (601, release("a", give_up=60, gen="ga", unclaimed=True), "lost"),
        (602, begin("a", "ga", bare=True), "run  ga"),
    ],
    "given up: what is sent again for others is another message": [
        (0, release("a", give_up=3600, gen="ga", unclaimed=True), "ok"),
        (1, call("a"), "claimed a ga"),  # carried out late
        (601, call("b"), "takeover a ga"),
        (602, begin("a", "ga"), "dropped a ga"),
        (603, begin("a", "ga", bare=True), "run  ga"),
    ],
    "given up: a message that held no claim": [
        *RAN,
        (2, release("b", give_up=60, gen="gb", unclaimed=True), "ok"),
        (3, begin("b", "gb"), "dropped b gb"),
        (4, release("a", give_up=60, gen="ga", unclaimed=True), "lost"),
        (5, finish("a", fresh=100), "ok"),
        (6, release("a", give_up=60, gen="ga", unclaimed=True), "lost"),
    ],
    "forget: drops the result": [*CACHED, (3, Forget(), "ok"), (4, call("b"), "claimed b gb")],
    "forget: drops the claim": [*RAN, (3, Forget(), "ok"), (4, finish("a", fresh=100), "lost")],
    "forget: there was nothing": [(0, Forget(), "lost")],
    "forget: what was given up stays so": [
        (0, call("a"), "claimed a ga"),
        (1, release("a", give_up=60, gen="ga"), "ok"),
        (2, Forget(), "lost"),
        (3, begin("a", "ga"), "dropped a ga"),
    ],
    "waiting: nothing to wait for, so it wakes itself": [
        *RAN,
        (2, begin("b", exclusive=True), "follow a ga"),
        (3, finish("a", line=True), "ok"),
        (4, begin("b", exclusive=True, parked="x"), "lost"),
        (5, begin("b", exclusive=True), "run  b.1"),
    ],
    "waiting: nobody passes the line, and it ends": [
        *RAN,
        (2, begin("b", exclusive=True), "follow a ga"),
        (2, begin("b", exclusive=True, parked="x"), "follow a ga"),
        (3, finish("a", line=True), "ok"),
        (4, begin("c", exclusive=True), "follow"),
        (5, begin("b", exclusive=True, waited="x"), "run  b.1"),
        (6, finish("b", line=True), "ok"),
        (7, release(""), "ok"),  # nobody was in the line
        (8, begin("c", exclusive=True), "run  c.1"),
    ],
    "waiting: the line is believed in for as long as a message": [
        *RAN,
        (2, begin("b", exclusive=True, parked="x"), "follow a ga"),
        (3, finish("a", line=True), "ok"),
        (3 + HOLD, begin("c", exclusive=True), "run  c.1"),
    ],
    # Identical headers of one chord or group
    "in time: each call moves it on": [
        (0, late("a"), "claimed a ga"),
        (4, late("b"), "joined a ga"),
        (5, comes("a", "ga"), "wait a ga"),
        (8, late("c"), "joined a ga"),
        (9, comes("a", "ga"), "wait a ga"),
        (13, comes("a", "ga"), "run  ga"),
    ],
    "in time: the run that waits has the newest arguments": [
        (0, late("a", arguments="1"), "claimed a ga"),
        (1, late("b", arguments="2"), "joined a ga"),
        (2, late("c", arguments="3"), "joined a ga"),
        (3, late("d"), "joined a ga"),
        (8, comes("a", "ga"), "run  ga"),
        (9, late("e", arguments="4"), "buffered e ge"),
        (10, late("f", arguments="5"), "joined e ge"),
    ],
    "in time: not beyond the longest": [
        (1, late("a"), "claimed a ga"),
        (5, late("b"), "joined a ga"),
        (6, comes("a", "ga"), "wait a ga"),
        (9, late("b"), "joined a ga"),
        (10, comes("a", "ga"), "wait a ga"),
        (13, late("b"), "joined a ga"),
        (14, comes("a", "ga"), "wait a ga"),
        (17, late("b"), "joined a ga"),
        (18, comes("a", "ga"), "wait a ga"),
        (20, late("b"), "joined a ga"),
        (20.9, comes("a", "ga"), "wait a ga"),
        (21, comes("a", "ga"), "run  ga"),
    ],
    "in time: what is due waits no longer, for whomever": [
        (0, late("a"), "claimed a ga"),
        (5, late("b"), "joined a ga"),
        (5, comes("a", "ga"), "run  ga"),
    ],
    "in time: a countdown is kept": [
        (0, late("a", countdown=ms(30)), "claimed a ga"),
        (1, late("b"), "joined a ga"),
        (29, comes("a", "ga"), "wait a ga"),
        (30, comes("a", "ga"), "run  ga"),
    ],
    "in time: a refresh is not put off": [
        (0, late("a"), "claimed a ga"),
        (1, late("b", refresh=True), "hastened a ga"),
        (1, comes("a", "ga"), "run  ga"),
        (2, finish("a", keep=3600), "ok"),
        (5, comes("a", "ga"), "finished a ga"),
    ],
    "in time: its first message, hours later, finds that it has run": [
        *OUTRUN,
        (3, finish("a"), "ok"),
        (20_000, comes("a", "ga", since=1), "reuse a ga"),
        (23_600, comes("a", "ga", since=1), "run  ga"),  # nobody knows any more
    ],
    "in time: also if it was retried": [
        *OUTRUN,
        (3, requeue("a", 1), "ok"),
        (4, comes("a", "ga", attempt=1, run="a.2", bare=True), "run  ga"),
        (5, finish("a", run="a.2", attempt=1), "ok"),
        (20_000, comes("a", "ga", since=1), "reuse a ga"),
    ],
    "in time: or if that has died, and the next run serves it": [
        *OUTRUN,
        (32, late("c"), "claimed c gc"),
        (37, comes("c", "gc", since=ms(32)), "run  gc"),
        (38, finish("c"), "ok"),
        (20_000, comes("a", "ga", since=1), "reuse c gc"),
    ],
    "in time: or if the next is a message of another way": [
        *OUTRUN,
        (32, comes("c", calls=True), "wait c c.1"),
        (37, comes("c", "c.1", since=ms(32)), "run  c.1"),
        (38, finish("c", gen="c.1"), "ok"),
        (20_000, comes("a", "ga", since=1), "reuse c c.1"),
    ],
    "in time: or if another has run since": [
        *OUTRUN,
        (3, finish("a"), "ok"),
        (4, late("c"), "claimed c gc"),
        (9, comes("c", "gc", since=ms(4)), "run  gc"),
        (10, finish("c"), "ok"),
        (20_000, comes("a", "ga", since=1), "reuse c gc"),
    ],
    "in time: or if who joined it sees its end before the store does": [
        *OUTRUN,
        (3, Ending(task_id="a", run="a.1"), "ok"),
        (4, call("c"), "ending a ga"),
        (4, call("c", gone="a"), "claimed c gc"),
        (5, begin("c", "gc"), "run  gc"),
        (6, finish("c", failed=True), "ok"),
        (20_000, comes("a", "ga", since=1), "reuse a ga"),
    ],
    "in time: and so it is with a refresh that names its id": [
        (0, late("a", countdown=ms(20_000)), "claimed a ga"),
        (1, late("b", refresh=True, pinned=True), "joined a ga"),
        (2, comes("b", "ga"), "run  ga"),
        (3, finish("b"), "ok"),
        (20_000, comes("a", "ga", since=1), "reuse b ga"),
    ],
    "in time: and with what waited for the end of a run": [
        (0, late("a"), "claimed a ga"),
        (5, comes("a", "ga"), "run  ga"),
        (6, late("b", countdown=ms(20_000)), "buffered b gb"),
        (7, late("c", refresh=True), "hastened b gb"),
        (8, finish("a"), "ok"),
        (8, comes("b", "gb", bare=True), "run  gb"),
        (9, finish("b"), "ok"),
        (20_006, comes("b", "gb", since=ms(6)), "reuse b gb"),
    ],
    "in time: a refresh on its own": [
        (0, late("a", refresh=True), "claimed a ga"),
        (0, comes("a", "ga"), "run  ga"),
    ],
    "in time: a call while it runs begins the next": [
        (0, late("a"), "claimed a ga"),
        (5, comes("a", "ga"), "run  ga"),
        (6, late("b"), "buffered b gb"),
        (8, late("c"), "joined b gb"),
        (9, finish("a"), "ok"),
        (10, late("d"), "joined b gb"),
        (11, comes("b", "gb"), "wait b gb"),
        (15, comes("b", "gb"), "run  gb"),
    ],
    "in time: which is due, but waits for the end": [
        (0, late("a"), "claimed a ga"),
        (5, comes("a", "ga"), "run  ga"),
        (6, late("b"), "buffered b gb"),
        (11, comes("b", "gb"), "follow a ga"),
        (12, late("c", refresh=True), "joined b gb"),
        (13, finish("a"), "ok"),
        (13, comes("b", "gb"), "run  gb"),
    ],
    "in time: a refresh of the next has it run at the end": [
        (0, late("a"), "claimed a ga"),
        (5, comes("a", "ga"), "run  ga"),
        (6, late("b"), "buffered b gb"),
        (7, late("c", refresh=True), "hastened b gb"),
        (7, comes("b", "gb"), "follow a ga"),
        (8, finish("a"), "ok"),
        (8, comes("b", "gb"), "run  gb"),
    ],
    "in time: messages of other ways call, and wait": [
        (0, comes("a", calls=True), "wait a a.1"),
        (4, comes("b", calls=True), "joined a a.1"),
        (5, comes("a", "a.1"), "wait a a.1"),
        (9, comes("a", "a.1"), "run  a.1"),
        (10, comes("c", calls=True), "follow a a.1"),
        (11, comes("d", calls=True), "joined c c.1"),
        (12, finish("a", gen="a.1", keep=60), "ok"),
        (12, comes("b", since=ms(4)), "reuse a a.1"),
        (12, comes("c", since=ms(9.9)), "wait c c.1"),
        (16, comes("c", since=ms(9.9)), "run  c.1"),
    ],
    "in time: a message of its own id follows, and takes over if nobody else has come": [
        (0, late("a"), "claimed a ga"),
        (1, late("b", pinned=True), "joined a ga"),
        (1, comes("b", "ga"), "joined a ga"),
        (6, comes("b", "ga"), "run  ga"),
        (6, comes("a", "ga"), "follow b ga"),
    ],
    "in time: a lost message is sent again, from when it was due": [
        (0, late("a"), "claimed a ga"),
        (4, late("b"), "joined a ga"),
        (38, late("c"), "overdue a ga"),
        (39, late("d"), "takeover a ga"),
        (39, comes("a", "ga", bare=True), "run  ga"),
    ],
    "in time: who revokes it ends the wait": [
        (0, late("a"), "claimed a ga"),
        (4, release("a"), "ok"),
        (5, late("b"), "claimed b gb"),
    ],
    "in time: a retry is not put off, and who has called meanwhile gets the next run": [
        (0, late("a"), "claimed a ga"),
        (5, comes("a", "ga"), "run  ga"),
        (6, requeue("a", 1), "ok"),
        (7, late("b"), "overdue a ga"),  # the retry may be lost
        (7, late("b"), "buffered b gb"),
        (7, comes("a", "ga", attempt=1, run="a.2"), "run  ga"),
        (8, late("c"), "joined b gb"),
        (9, finish("a", run="a.2"), "ok"),
        (12, comes("b", "gb"), "wait b gb"),
        (13, comes("b", "gb"), "run  gb"),
    ],
    "a refresh waits for a retry, too": [
        *RAN,
        (2, requeue("a", 1), "ok"),
        (2.9, call("b", refresh=True), "buffered b gb"),
        (4, call("c", buffer=True), "joined b gb"),
        (5, begin("b", "gb", refresh=True), "follow a ga"),
        (6, begin("a", "ga", attempt=1, run="a.2"), "run  ga"),
        (7, finish("a", run="a.2"), "ok"),
        (8, begin("b", "gb", refresh=True), "run  gb"),
    ],
    "in time: a message of other ways waits for a retry": [
        (0, comes("a", calls=True), "wait a a.1"),
        (5, comes("a", "a.1"), "run  a.1"),
        (6, requeue("a", 1), "ok"),
        (7, comes("b", calls=True), "follow a a.1"),
        (8, comes("c", calls=True), "joined b b.1"),
        (9, comes("a", "a.1", attempt=1, run="a.2"), "run  a.1"),
        (10, finish("a", gen="a.1", run="a.2"), "ok"),
        (10, comes("b"), "wait b b.1"),
    ],
    "in time: the next of a run that has died is due when it was": [
        *DIED,
        (36, comes("b", "gb"), "wait b gb"),
        (39, comes("b", "gb"), "run  gb"),
        (40, finish("b"), "ok"),
    ],
    "in time: and so it is for who calls after that": [
        *DIED,
        (36, late("d"), "joined b gb"),
        (39, comes("b", "gb"), "wait b gb"),
        (41, comes("b", "gb"), "run  gb"),
    ],
    "in time: no longer than from its first call": [
        (0, late("a"), "claimed a ga"),
        (5, comes("a", "ga"), "run  ga"),
        (24, late("b"), "buffered b gb"),
        *[(24 + 4 * n, late("c"), "joined b gb") for n in (1, 2)],
        (36, late("c"), "joined b gb"),
        (37, comes("b", "gb"), "wait b gb"),
        (40, late("c"), "joined b gb"),
        (41, comes("b", "gb"), "wait b gb"),
        (43, late("c"), "joined b gb"),
        (43.9, comes("b", "gb"), "wait b gb"),
        (44, comes("b", "gb"), "run  gb"),
    ],
    "in time: its countdown is kept, too": [
        (0, late("a"), "claimed a ga"),
        (5, comes("a", "ga"), "run  ga"),
        (6, late("b", countdown=ms(100)), "buffered b gb"),
        (36, late("c"), "joined b gb"),
        (105, comes("b", "gb"), "wait b gb"),
        (106, comes("b", "gb"), "run  gb"),
    ],
    "in time: a message of another id leaves the next of a dead run to itself": [
        *DIED,
        (36, comes("x", "gb"), "joined b gb"),
        (39, comes("b", "gb"), "run  gb"),
    ],
    "in time: a dead run that is delivered again runs before the next": [
        *DIED,
        (36, comes("a", "ga", run="a.2", redelivered=True), "run  ga"),
        (37, comes("b", "gb"), "follow a ga"),
    ],
    "in time: who calls on looks, should its message not have come when it was first due": [
        (0, late("a"), "claimed a ga"),
        (4, late("b"), "joined a ga"),
        (5.9, late("b"), "joined a ga"),
        (6, late("b"), "overdue a ga"),
        (6.5, late("b"), "joined a ga"),
        (7, late("b"), "overdue a ga"),
        (7, late("b", gone="a"), "claimed b gb"),
    ],
    "in time: nor when it was due for the second time": [
        (0, late("a"), "claimed a ga"),
        (4, late("b"), "joined a ga"),
        (5, comes("a", "ga"), "wait a ga"),
        (8, late("b"), "joined a ga"),
        (9.9, late("b"), "joined a ga"),
        (10, late("b"), "overdue a ga"),
    ],
    "in time: nor when a refresh has sent it": [
        (0, late("a"), "claimed a ga"),
        (1, late("b", refresh=True), "hastened a ga"),
        (1.9, late("c"), "overdue a ga"),
    ],
    "in time: what was due is not put off when it is sent again": [
        (0, late("a"), "claimed a ga"),
        (35, late("b"), "takeover a ga"),
        (36, late("c"), "overdue a ga"),
        (36, comes("a", "ga", bare=True), "run  ga"),
    ],
    "group: a member shares a run that has ended": [
        (0, call("a", group="c1"), "claimed a ga"),
        (1, begin("a", "ga", group="c1"), "run  ga"),
        (2, finish("a", keep=60), "ok"),
        (3, call("b", group="c1", pinned=True), "joined a ga"),
        (4, begin("b", "ga", group="c1"), "reuse a ga"),
    ],
    "group: another group does not": [
        (0, call("a", group="c1"), "claimed a ga"),
        (1, begin("a", "ga", group="c1"), "run  ga"),
        (2, finish("a", keep=60), "ok"),
        (3, call("b", group="c2"), "claimed b gb"),
    ],
    **UNIQUE,
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_case(case: list[tuple[float, Operation, str]]) -> None:
    claim = EMPTY
    for seconds, operation, expected in case:
        claim, answer = step(operation, claim, ms(seconds))
        said = f"{answer.word} {answer.id} {answer.gen}".rstrip()
        assert said == expected, f"at {seconds} s: {operation}"


@pytest.mark.parametrize("seconds", [0, 1, 4.9, 5.2, 12, 60, 300])
@pytest.mark.parametrize("apart", [0.1, 0.7, 4.9])
def test_a_burst_costs_a_message_for_each_time_of_quiet(seconds: float, apart: float) -> None:
    """And one at its start, however many calls there are; by `debounce_max` it is over."""
    moments = [1 + n * apart for n in range(int(seconds / apart) + 1) if n * apart < 20]
    claim, arrives, sent = EMPTY, 0.0, 0
    for moment in moments:
        while sent and arrives <= moment:
            claim, answer = step(comes("a", "ga"), claim, ms(arrives))
            assert answer.word == "wait"
            arrives, sent = arrives + answer.rest / 1000, sent + 1
        claim, answer = step(late("a" if not sent else "b"), claim, ms(moment))
        if not sent:
            arrives, sent = moment + answer.rest / 1000, 1
        assert answer.id == "a"
    while (result := step(comes("a", "ga"), claim, ms(arrives)))[1].word == "wait":
        claim, arrives, sent = result[0], arrives + result[1].rest / 1000, sent + 1
    assert result[1].word == "run"
    assert arrives == pytest.approx(min(moments[-1] + 5, 21), abs=0.002)
    assert sent <= 1 + math.ceil((moments[-1] - 1) / 5)


@pytest.mark.parametrize(
    ("last", "waiting"),
    [
        (finish("a"), "x y"),
        (release("a", run="a.1"), "x y"),
        (Forget(), "x y"),
        (Requeue(task_id="a", run="a.1", hold=1, attempt=1), ""),  # it goes on
        (Ending(task_id="a", run="a.1"), ""),
    ],
)
def test_the_end_of_a_run_tells_where_messages_wait(last: Operation, waiting: str) -> None:
    claim, _ = step(begin("a"), EMPTY, 0)
    for name, place in (("b", "x"), ("c", "y"), ("d", "x")):
        claim, answer = step(begin(name, parked=place), claim, 1)
        assert (answer.word, answer.waiting) == ("follow", "")
    assert step(last, claim, 2)[1].waiting == waiting


def test_who_takes_over_knows_who_waits() -> None:
    claim, _ = step(begin("a"), EMPTY, 0)
    claim, _ = step(begin("b", parked="x"), claim, 1)
    claim, _ = step(begin("c", waited="y"), claim, ms(LEASE))
    assert claim.holder is not None
    assert (claim.holder.owner, claim.holder.waiting) == ("c", "x y")


@pytest.mark.parametrize(
    ("before", "orphans"),
    [
        ([(0, call("a")), (1, begin("b"))], ["a"]),
        ([(0, call("a")), (1, begin("a", "ga")), (31, begin("b"))], ["a"]),
        ([(0, call("a")), (1, begin("a", "ga")), (2, begin("a", "ga", run="a.2"))], []),
        ([(0, begin("a")), *[(t, renew("a")) for t in (20, 40)], (61, call("b"))], ["a"]),
        ([(0, call("a", expires=60_000)), (600, call("b"))], ["a"]),
        ([(0, begin("a", exclusive=True)), (31, begin("b", exclusive=True))], []),
        ([(0, call("a")), (1, begin("b")), (32, begin("c"))], ["a", "b"]),
    ],
)
def test_whoever_loses_the_claim_is_remembered(
    before: list[tuple[float, Operation]], orphans: list[str]
) -> None:
    claim = EMPTY
    for seconds, operation in before:
        claim, _ = step(operation, claim, ms(seconds))
    assert claim.holder is not None
    assert list(claim.holder.orphans) == orphans


@pytest.mark.parametrize("options", [{}, {"expires": 60_000}, {"refresh": True}], ids=str)
@pytest.mark.parametrize("wait", [15, 45, 55])
def test_a_steady_stream_of_calls_runs_however_long_the_queue(
    options: dict[str, Any], wait: int
) -> None:
    # A call every 10 s, and a message comes to a worker after `wait`: in bare Celery each one runs.
    claim, queue, runs = EMPTY, list[tuple[int, str, str, int]](), list[int]()
    for second in range(300):
        if second % 10 == 0:
            claim, answer = step(call(f"t{second}", hold=30, **options), claim, ms(second))
            if answer.word in ("claimed", "takeover", "free"):
                queue.append((second + wait, answer.id, answer.gen, answer.at))
        for message in [one for one in queue if one[0] <= second]:
            queue.remove(message)
            name, gen, since = message[1:]
            claim, answer = step(begin(name, gen, since=since), claim, ms(second))
            if answer.word == "follow":
                queue.append((second + 2, name, gen, since))
            elif answer.word == "run":
                runs.append(second)
                claim, _ = step(finish(name, gen=answer.gen, keep=120), claim, ms(second))
    assert runs
    assert runs[0] <= wait
    assert max(b - a for a, b in pairwise([*runs, 300])) <= 2 * wait + 10


def test_who_lost_the_claim_is_served_by_whoever_runs_next() -> None:
    claim, _ = step(call("a"), EMPTY, 0)
    claim, _ = step(begin("b"), claim, 1)
    served, answer = step(finish("b"), claim, 2)
    assert answer.ids == ("a",)
    assert served.holder is None
    failed, answer = step(release("b", run="b.1"), claim, 2)
    assert answer.word == "ok"
    again, answer = step(call("c"), failed, 3)
    assert (answer.word, answer.id) == ("claimed", "c"), "a may be running yet"
    assert again.holder is not None
    assert again.holder.orphans == ("a",)


@pytest.mark.parametrize("ends", [Forget(), release("a", run="a.1", unserved=True)])
def test_who_waits_for_an_id_that_is_given_up_is_served_by_the_next_run(ends: Operation) -> None:
    claim, _ = step(call("a"), EMPTY, 0)
    claim, _ = step(begin("a", "ga"), claim, 1)
    claim, answer = step(ends, claim, 2)
    assert answer.word == "ok"
    claim, answer = step(call("b"), claim, 3)
    assert (answer.word, answer.id) == ("claimed", "b")
    claim, _ = step(begin("b", "gb"), claim, 4)
    assert step(finish("b"), claim, 5)[1].ids == ("a",)


def test_whoever_depended_on_a_run_that_is_found_to_have_ended_is_not_forgotten() -> None:
    """There is no other start for a time, and they are served by the one after it."""
    claim, _ = step(call("a", unique=ms(300)), EMPTY, 0)
    claim, _ = step(begin("b", "ga", unique=ms(300)), claim, ms(1))
    assert claim.holder is not None
    assert claim.holder.orphans == ("a",)
    found = {"gone": "b", "readable": True, "well": True, "unique": ms(300)}
    claim, answer = step(call("c", **found), claim, ms(40))
    assert (answer.word, answer.id) == ("joined", "b")
    claim, _ = step(call("d", unique=ms(300)), claim, ms(302))
    assert step(begin("d", unique=ms(300)), claim, ms(303))[1].ids == ("a",)


def test_orphans_are_limited() -> None:
    claim = EMPTY
    for n in range(2 * MOST_ORPHANS):
        claim, _ = step(begin(f"a{n}"), claim, ms(n * 31))
    assert claim.holder is not None
    assert claim.holder.orphans[-1] == f"a{2 * MOST_ORPHANS - 2}"
    assert len(claim.holder.orphans) == MOST_ORPHANS


@pytest.mark.parametrize("marks", ["tombstones", "arrivals"])
def test_what_is_remembered_of_messages_is_limited(marks: str) -> None:
    claim = EMPTY
    for n in range(3 * MOST_MARKS):
        operations: dict[str, Operation] = {
            "tombstones": release(f"a{n}", give_up=3600, gen="g", unclaimed=True),
            "arrivals": begin(f"a{n}", "g", lease=0, arrival=600_000),
        }
        claim, _ = step(operations[marks], claim, n)
    kept = [f"g:a{n}" for n in range(2 * MOST_MARKS, 3 * MOST_MARKS)]
    assert list(getattr(claim, marks)) == kept, "the oldest go first"


def test_a_run_is_given_the_newest_arguments_until_it_has_begun() -> None:
    def given(claim: Claim, operation: Operation, seconds: float) -> tuple[Claim, str]:
        claim, answer = step(operation, claim, ms(seconds))
        return claim, answer.arguments

    claim, _ = given(EMPTY, late("a", arguments="1"), 0)
    claim, _ = given(claim, late("b", arguments="2"), 1)
    claim, _ = given(claim, comes("c", calls=True, arguments="3"), 2)
    claim, first = given(claim, comes("a", "ga"), 10)
    claim, _ = given(claim, late("d", arguments="4"), 11)
    claim, _ = given(claim, late("e", arguments="5"), 12)
    _, again = given(claim, comes("a", "ga", run="a.2", redelivered=True), 50)
    claim, _ = given(claim, requeue("a", 1), 13)
    claim, retry = given(claim, comes("a", "ga", run="a.3", attempt=1), 14)
    claim, _ = given(claim, finish("a", run="a.3"), 15)
    claim, following = given(claim, comes("d", "gd"), 20)
    assert (first, again, retry, following) == ("3", "3", "3", "5")
    claim, _ = given(claim, finish("d"), 21)
    assert claim.holder is None


def given(*steps: tuple[float, Operation]) -> str:
    """The arguments that the last of the operations is answered."""
    claim, arguments = EMPTY, ""
    for seconds, operation in steps:
        claim, answer = step(operation, claim, ms(seconds))
        arguments = answer.arguments
    return arguments


@pytest.mark.parametrize("calls", [late, partial(call, buffer=True)])
def test_what_waited_for_a_run_that_has_died_is_given_the_newest_arguments(calls: Any) -> None:
    run = partial(begin, lease=LEASE, refresh=True, heed=calls is late)
    ran = [(0, call("a")), (1, run("a", "ga")), (2, calls("b", arguments="1"))]
    ran += [(3, calls("c", arguments="2"))]
    assert given(*ran, (31, run("b", "gb"))) == "2"
    assert given(*ran, (31, calls("d", arguments="3")), (50, run("b", "gb"))) == "3"


def test_what_waits_for_a_retry_is_given_the_newest_arguments() -> None:
    ran = [(0, late("a", arguments="1")), (5, comes("a", "ga")), (6, requeue("a", 1))]
    ran += [(6.9, late("b", arguments="2")), (8, late("c", arguments="3"))]
    ran += [(9, comes("a", "ga", attempt=1, run="a.2"))]
    assert given(*ran) == ""
    assert given(*ran, (10, finish("a", run="a.2")), (13, comes("b", "gb"))) == "3"


def test_a_named_call_that_finds_a_lost_message_leaves_its_arguments() -> None:
    lost = [(0, late("a", arguments="1")), (36, late("b", arguments="2", pinned=True))]
    assert given(*lost, (36, comes("b", "ga"))) == "2"
    assert given(*lost, (36, comes("a", "ga"))) == "2"


def test_when_what_is_published_is_due() -> None:
    claim, answer = step(late("a"), EMPTY, 0)
    assert answer.rest == ms(5)
    claim, _ = step(late("b"), claim, ms(3))
    claim, answer = step(comes("a", "ga"), claim, ms(5))
    assert answer.rest == ms(3)
    assert claim.holder is not None
    assert claim.holder.until == ms(8 + 30), "a lost message counts as one from when it was due"
    claim, _ = step(comes("a", "ga"), claim, ms(8))
    claim, answer = step(late("c", countdown=ms(60)), claim, ms(9))
    assert (answer.word, answer.rest) == ("buffered", ms(60))


def test_an_unchanged_claim_is_equal_so_that_no_store_writes_it() -> None:
    claim, _ = step(call("a"), EMPTY, 0)
    for operation in (call("b"), call("b", hold=0), release("b"), renew("b"), lapse("b", by="b")):
        assert step(operation, claim, 1)[0] == claim


def test_time_ends_what_is_cached_and_what_was_given_up() -> None:
    claim = EMPTY
    for seconds, operation, _ in CACHED:
        claim, _ = step(operation, claim, ms(seconds))
    claim, _ = step(release("x", give_up=10, gen="gx"), claim, ms(3))
    assert prune(claim, ms(12)) == claim
    assert prune(claim, ms(13)).tombstones == {}
    assert prune(claim, ms(102)) == Claim()


@pytest.mark.parametrize(
    ("operations", "ends"),
    [
        ([], 0),
        ([call("a")], ms(HOLD) + LINGER),
        ([begin("a"), finish("a", fresh=10, gen="a.1")], ms(10)),
        ([begin("a"), finish("a", fresh=10, stale=5, gen="a.1")], ms(15)),
        ([begin("a"), finish("a", fresh=9e12, gen="a.1")], FOREVER),
        ([begin("a"), finish("a", gen="a.1")], 0),
        ([call("a"), release("a", give_up=60, gen="ga")], ms(60)),
        ([call("a", hold=9e12)], FOREVER),
    ],
)
def test_expiry(operations: list[Operation], ends: int) -> None:
    claim = EMPTY
    for operation in operations:
        claim, _ = step(operation, claim, 0)
    assert expiry(claim) == ends


def test_times_beyond_the_end_of_time_stay_at_it() -> None:
    claim, _ = step(call("a", hold=9e12), EMPTY, ms(1))
    assert claim.holder is not None
    assert claim.holder.until == FOREVER
