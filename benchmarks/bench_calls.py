"""What a call costs at the caller, beside a bare `apply_async` and a raw `GET`.

    python -m benchmarks.bench_calls

The second table has calls that are counted beside the same calls that are not.

Needs no worker: messages pile up in a queue of its own, on a server of its own.  All ways take
turns within one run, a batch each, so that a busy machine slows them alike; each figure is the
median of the ratios of neighbours, and so is its spread (the quartiles).  Where celery-singleton
and celery-once are installed, what they put before a call is among the ways.
"""

from __future__ import annotations

import random
import shutil
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from importlib import import_module
from statistics import median, quantiles
from typing import Any

import redis
from celery import Celery

from jobtastic_ext import JobtasticStep
from jobtastic_ext.claims.records import Begin, Finish
from jobtastic_ext.runtime import publish, runtime_of
from jobtastic_ext.testing.server import EmbeddedServer, server_binary

ROUNDS, BATCH = 120, 20

#: Rounds where a hundredth matters.
MORE_ROUNDS = 500

#: The way against which the last column is taken, where there is one.
RAW = "raw GET"

#: What most ways are held against.
BARE = "bare apply_async"

POLICY: dict[str, Any] = {
    "tasks": {
        "bench.report": {"significant_kwargs": ["x"], "cache_duration": "1h"},
        "bench.guarded": {"significant_kwargs": ["x"], "on_broker_error": "fail"},
        "bench.debounced": {"significant_kwargs": ["x"], "debounce": "1h"},
        "bench.newest": {"significant_kwargs": ["x"], "debounce": "1h", "arguments": "last"},
        "bench.buffered": {"significant_kwargs": ["x"], "on_duplicate": "buffer_one"},
    }
}


def make_app(server: EmbeddedServer, *, step: bool) -> Celery:
    app = Celery(f"bench-{step}", set_as_current=False)
    app.conf.update(
        broker_url=server.url(0),
        result_backend=server.url(1),
        jobtastic_store=server.url(2),
        jobtastic_policy=POLICY,
        jobtastic_lease=3600,  # the message that others join is not sent again meanwhile
        task_default_queue=f"bench-{uuid.uuid4().hex}",
    )
    if step:
        app.steps["worker"].add(JobtasticStep)

    @app.task(name="bench.report", shared=False)
    def report(x: Any, y: int = 1) -> None: ...

    @app.task(name="bench.other", shared=False)
    def other(x: Any, y: int = 1) -> None: ...

    def body(x: Any, y: int = 1) -> None: ...

    for name in ("guarded", "debounced", "newest", "buffered"):
        app.task(body, name=f"bench.{name}", shared=False)

    app.finalize()
    return app


def cached_call(app: Celery) -> str:
    """Leave the claim and the result of a call that has ended, as a worker does."""
    report, runtime = app.tasks["bench.report"], runtime_of(app)
    assert runtime is not None
    plan = runtime.plan(report)
    assert plan is not None
    result = report.delay("cached")
    key = plan.key(("cached",), {})
    begun = Begin(task_id=result.id, run="bench.1", lease=30_000, herd=60_000)
    runtime.store.apply(key, begun)
    app.backend.store_result(result.id, {"rows": list(range(20))}, "SUCCESS")
    runtime.store.apply(
        key,
        Finish(task_id=result.id, run="bench.1", gen="", fresh=3_600_000, stale=0, keep=1, hold=1),
    )
    return str(result.id)


def buffered_call(app: Celery) -> None:
    """Leave a call that runs, and one that waits for its end."""
    buffered, runtime = app.tasks["bench.buffered"], runtime_of(app)
    assert runtime is not None
    plan = runtime.plan(buffered)
    assert plan is not None
    result = buffered.delay("joined")
    key = plan.key(("joined",), {})
    begun = Begin(task_id=result.id, run="bench.1", lease=3_600_000, herd=3_600_000)
    runtime.store.apply(key, begun)
    assert buffered.delay("joined").decision == "buffered"


Way = Callable[[], object]


def ways(server: EmbeddedServer) -> dict[str, tuple[Way, str]]:
    """Name each way, with the name of what it is held against."""
    app, stepless = make_app(server, step=True), make_app(server, step=False)
    client = redis.Redis.from_url(server.url(3))
    client.set("raw", b"x" * 200)
    count = iter(range(10**9))
    cached_call(app)
    report, other, dormant = (
        app.tasks["bench.report"],
        app.tasks["bench.other"],
        stepless.tasks["bench.other"],
    )
    guarded = app.tasks["bench.guarded"]
    report.delay("joined")
    debounced, newest = app.tasks["bench.debounced"], app.tasks["bench.newest"]
    debounced.delay("joined"), newest.delay("joined")
    buffered_call(app)

    def hit() -> object:
        result = report.delay("cached")
        assert result.result
        return result

    return {
        BARE: (lambda: publish(other, (next(count),)), BARE),
        "raw GET": (lambda: client.get("raw"), BARE),
        "first call": (lambda: report.delay(next(count)), BARE),
        "with a fallback": (lambda: guarded.delay(next(count)), BARE),
        "its publish alone": (lambda: other.delay_or_fail(next(count)), BARE),
        "joined": (lambda: report.delay("joined"), BARE),
        "debounced": (lambda: debounced.delay("joined"), BARE),
        "debounced, arguments last": (lambda: newest.delay("joined"), BARE),
        "buffered": (lambda: app.tasks["bench.buffered"].delay("joined"), BARE),
        "cached, result in hand": (hit, BARE),
        "task without a policy": (lambda: other.delay(next(count)), BARE),
        "bare, other app": (lambda: publish(dormant, (next(count),)), "bare, other app"),
        "app without the step": (lambda: dormant.delay(next(count)), "bare, other app"),
    }


def peers(server: EmbeddedServer) -> dict[str, tuple[Way, str]]:
    """What others put before a call, in an app of its own; empty where they are not installed."""
    app = make_app(server, step=False)
    app.conf.update(
        singleton_backend_url=server.url(4),
        ONCE={
            "backend": "celery_once.backends.Redis",
            "settings": {"url": server.url(5), "default_timeout": 3600},
        },
    )
    classes: dict[str, dict[str, Any]] = {}
    with suppress(ImportError):
        classes["celery-singleton"] = {"base": import_module("celery_singleton").Singleton}
    with suppress(ImportError):
        once = import_module("celery_once").QueueOnce
        classes["celery-once"] = {"base": once, "once": {"graceful": True}}
    found: dict[str, tuple[Way, str]] = {}
    for name, options in classes.items():

        @app.task(name=f"bench.{name}", shared=False, **options)
        def body(x: Any, y: int = 1) -> None: ...

        body.delay("joined")
        count = iter(range(10**9))
        found[f"{name}, first"] = partial(lambda f, n: f(next(n)), body.delay, count), BARE
        found[f"{name}, joined"] = partial(body.delay, "joined"), BARE
    return found


def counted(server: EmbeddedServer) -> dict[str, tuple[Way, str]]:
    """Each kind of call: uncounted, and counted beside it, by one app."""
    app, numbers = make_app(server, step=True), iter(range(10**9))
    runtime = runtime_of(app)
    assert runtime is not None
    cached_call(app)
    buffered_call(app)
    report, debounced, buffered = (
        app.tasks[f"bench.{name}"].delay for name in ("report", "debounced", "buffered")
    )
    report("joined"), debounced("joined")
    kinds: dict[str, Way] = {
        "first call": lambda: report(f"counted {next(numbers)}"),
        "joined": lambda: report("joined"),
        "cached": lambda: report("cached"),
        "debounced": lambda: debounced("joined"),
        "buffered": lambda: buffered("joined"),
    }
    found: dict[str, tuple[Way, str]] = {}
    for kind, way in kinds.items():
        for name, count in ((kind, lambda *_: None), (f"{kind}, counted", runtime.tally.count)):

            def call(way: Way = way, count: Any = count) -> object:
                runtime.tally.count = count  # type: ignore[method-assign]
                return way()

            found[name] = (call, kind)
    return found


def batch(way: Way) -> float:
    """Return the microseconds of one call."""
    began = time.perf_counter()
    for _ in range(BATCH):
        way()
    return (time.perf_counter() - began) / BATCH * 1e6


def compare(
    all_ways: dict[str, tuple[Way, str]], rounds: int = ROUNDS, beside: str = "bare"
) -> dict[str, list[float]]:
    """Let the ways take turns, in another order each round, and print the table."""
    times: dict[str, list[float]] = {name: [] for name in all_ways}
    for way, _ in all_ways.values():
        batch(way)
    for _ in range(rounds):
        turns = {name: random.random() for name in all_ways}
        # What is held against each other comes together.
        for name in sorted(turns, key=lambda name: (turns[all_ways[name][1]], turns[name])):
            times[name].append(batch(all_ways[name][0]))
    raw_column = "x GET" if RAW in times else ""
    print(f"{'call':<24} {'µs':>7}   {f'x {beside} (quartiles)':<21} {raw_column}".rstrip())
    for name, (_, reference) in all_ways.items():
        low, middle, high = quantiles(ratios(times[name], times[reference]), n=4)
        spread = f"{middle:6.3f} ({low:.2f} to {high:.2f})"
        raw = f"{median(ratios(times[name], times[RAW])):5.1f}" if RAW in times else ""
        print(f"{name:<24} {median(times[name]):7.0f}   {spread:<21} {raw}".rstrip())
    return times


def main() -> None:
    """Start a server, and print what a call costs."""
    with EmbeddedServer(shutil.which("redis-server") or server_binary()) as server:
        compare(ways(server) | peers(server))
        print()
        compare(counted(server), MORE_ROUNDS, "uncounted")


def ratios(one: list[float], other: list[float]) -> list[float]:
    return [a / b for a, b in zip(one, other, strict=True)]


if __name__ == "__main__":
    main()
