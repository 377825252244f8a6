"""What the watch on memory adds to a run, beside the bare run, in microseconds.

    python -m benchmarks.bench_memory

Runs a task that does nothing through Celery's own tracer, as a pool's child does.  The ways take
turns within one process, a batch each; each figure is the median of the differences of
neighbours, and so is its spread (the quartiles).  The time is that of the processor: all of it is
spent here, and other processes do not add to it.
"""

from __future__ import annotations

import random
import time
import uuid
from statistics import median, quantiles
from types import SimpleNamespace

import celery.concurrency.prefork
import celery.worker.worker
from celery import Celery
from celery.app.trace import build_tracer

from jobtastic_ext import JobtasticStep
from jobtastic_ext.plugin import handlers
from jobtastic_ext.runtime import runtime_of

ROUNDS, BATCH = 40, 200

#: Objects that the busy task allocates and gives back.
ROWS = 2_000

POLICY = {
    "tasks": {
        "bench.watched": {"memleak_threshold": 50, "herd_avoidance_timeout": 0},
        "bench.traced": {
            "memleak_threshold": 50,
            "herd_avoidance_timeout": 0,
            "memleak_trace": 3,
        },
        "bench.busy": {"herd_avoidance_timeout": 0},
    }
}


def nothing() -> None: ...


def busy() -> int:
    return len([f"row {n}" for n in range(ROWS)])


def make_app() -> Celery:
    app = Celery("bench-memory", set_as_current=False)
    app.conf.update(
        broker_url="memory://",
        result_backend="cache+memory://",
        jobtastic_store="memory://",
        jobtastic_policy=POLICY,
        task_ignore_result=True,
    )
    app.steps["worker"].add(JobtasticStep)
    for name in ("bench.watched", "bench.other"):
        app.task(nothing, name=name, shared=False)
    for name in ("bench.busy", "bench.traced"):
        app.task(busy, name=name, shared=False)
    app.finalize()
    return app


class Runs:
    """Traces one task of an app, with the hooks of the watch told of its runs or not."""

    def __init__(self, app: Celery, name: str, *, watch: bool) -> None:
        self.watch = watch
        task = app.tasks[name]
        self.trace = build_tracer(name, task, app=app, eager=False, propagate=False)
        self.request = {"ignore_result": True, "is_eager": False, "delivery_info": {}}

    def batch(self, size: int = BATCH) -> float:
        """Return the microseconds of one run."""
        handlers.disconnect()
        if self.watch:
            handlers.connect()
        began = time.thread_time()
        for _ in range(size):
            self.trace(uuid.uuid4().hex, (), {}, dict(self.request))
        return (time.thread_time() - began) / size * 1e6


def main() -> None:
    """Take turns, in another order each round, and print the table."""
    app = make_app()
    runtime = runtime_of(app)
    assert runtime is not None
    parent = SimpleNamespace(pool_cls=celery.concurrency.prefork.TaskPool, concurrency=2)
    assert runtime.watch_memory(parent)
    runtime.hooks = runtime.hooks[-1:]  # nobody but the watch is told
    ways = {
        "bare": (Runs(app, "bench.watched", watch=False), "bare"),
        "bare, again": (Runs(app, "bench.watched", watch=False), "bare"),
        "threshold set": (Runs(app, "bench.watched", watch=True), "bare"),
        "threshold of another task": (Runs(app, "bench.other", watch=True), "bare"),
        f"bare, {ROWS} rows": (Runs(app, "bench.busy", watch=False), f"bare, {ROWS} rows"),
        f"memleak_trace, {ROWS} rows": (
            Runs(app, "bench.traced", watch=True),
            f"bare, {ROWS} rows",
        ),
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    # Tracing leaves a heap in pieces behind, so its turn comes when the others are done.
    for traced in (False, True):
        order = [name for name in ways if ("rows" in name) is traced]
        for _ in range(ROUNDS):
            random.shuffle(order)
            for name in order:
                times[name].append(ways[name][0].batch())
    handlers.disconnect()
    print(f"{'run':<30} {'µs':>7}   added to the bare run (quartiles)")
    for name, (_, reference) in ways.items():
        added = [a - b for a, b in zip(times[name], times[reference], strict=True)]
        low, middle, high = quantiles(added, n=4)
        print(f"{name:<30} {median(times[name]):7.1f}   {middle:6.1f} ({low:.1f} to {high:.1f})")


if __name__ == "__main__":
    main()
