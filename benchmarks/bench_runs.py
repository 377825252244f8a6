"""What a run costs at the worker, beside the run of the same task without a policy.

    python -m benchmarks.bench_runs

Runs a task that does nothing through Celery's own tracer, as a pool's child does, with its results
and claims on a server of its own.  The ways take turns, a batch each; each figure is the median of
the ratios of neighbours, and so is its spread (the quartiles).  The last column counts what a run
that has been learnt asks of the server, beyond what Celery does.
"""

from __future__ import annotations

import itertools
import random
import shutil
import time
import uuid
from statistics import median, quantiles
from types import SimpleNamespace
from typing import Any

import celery.concurrency.prefork
import redis
from celery import Celery
from celery.app.trace import build_tracer

from jobtastic_ext import JobtasticStep
from jobtastic_ext.plugin import handlers
from jobtastic_ext.runtime import close_runtime, runtime_of
from jobtastic_ext.testing.server import EmbeddedServer, server_binary
from jobtastic_ext.worker.wrapping import unwrap_tasks, wrap_tasks

ROUNDS, BATCH = 60, 50

NONE = "no policy"

#: What a task's policy is, by what the table calls it; the first has none.
POLICIES: dict[str, Any] = {
    NONE: None,
    "no policy, again": None,
    "shared": {"herd_avoidance_timeout": 60},
    "cached": {"cache_duration": "1h"},
    "watched": {"herd_avoidance_timeout": 0, "memleak_threshold": 50},
}


def nothing(number: int) -> None: ...


def make_app(server: EmbeddedServer) -> Celery:
    app = Celery("bench-runs", set_as_current=False)
    app.conf.update(
        broker_url=server.url(0),
        result_backend=server.url(1),
        jobtastic_store=server.url(2),
        jobtastic_policy={"tasks": {name: one for name, one in POLICIES.items() if one}},
    )
    app.steps["worker"].add(JobtasticStep)
    for name in POLICIES:
        app.task(nothing, name=name, shared=False)
    app.finalize()
    return app


class Runs:
    """Traces one task; each run is another call."""

    def __init__(self, app: Celery, name: str, numbers: itertools.count[int]) -> None:
        self.trace = build_tracer(name, app.tasks[name], app=app)
        self.numbers = numbers

    def batch(self, size: int = BATCH) -> float:
        """Return the microseconds of one run."""
        began = time.perf_counter()
        for number in itertools.islice(self.numbers, size):
            task_id = uuid.uuid4().hex
            request = {"id": task_id, "is_eager": False, "delivery_info": {}}
            self.trace(task_id, (number,), {}, request)
        return (time.perf_counter() - began) / size * 1e6


def questions(client: redis.Redis, runs: Runs, size: int = 200) -> float:
    """Return how many commands a run sends, those of scripts not among them."""
    with client.monitor() as monitor:
        runs.batch(size)
        client.echo("end")
        found = 0
        for command in monitor.listen():
            if command["command"].startswith("ECHO"):
                return found / size
            found += command["client_type"] != "lua"
    raise AssertionError("the monitor has ended")


def main() -> None:
    """Take turns, in another order each round, and print the table."""
    with EmbeddedServer(shutil.which("redis-server") or server_binary()) as server:
        app = make_app(server)
        runtime = runtime_of(app)
        assert runtime is not None
        handlers.connect()
        wrap_tasks(runtime.deliveries)
        parent = SimpleNamespace(pool_cls=celery.concurrency.prefork.TaskPool, concurrency=2)
        if runtime.watch_memory(parent):
            handlers.connect(handlers.MEMORY)
        numbers = itertools.count()
        ways = {name: Runs(app, name, numbers) for name in POLICIES}
        times: dict[str, list[float]] = {name: [] for name in ways}
        order = list(ways)
        for runs in ways.values():
            runs.batch()
        for _ in range(ROUNDS):
            random.shuffle(order)
            for name in order:
                times[name].append(ways[name].batch())
        with redis.Redis.from_url(server.url(0)) as client:
            asked = {name: questions(client, runs) for name, runs in ways.items()}
        unwrap_tasks(runtime.deliveries)
        handlers.disconnect()
        close_runtime(app)
    print(f"{'run':<20} {'µs':>7}   x no policy (quartiles)   commands more")
    for name, seen in times.items():
        ratios = [a / b for a, b in zip(seen, times[NONE], strict=True)]
        low, middle, high = quantiles(ratios, n=4)
        spread = f"{middle:5.2f} ({low:.2f} to {high:.2f})"
        more = asked[name] - asked[NONE]
        print(f"{name:<20} {median(seen):7.0f}   {spread:<23}   {more:5.2f}")


if __name__ == "__main__":
    main()
