"""What a report of progress costs: the call, the backend's writes, and a poll of 10,000 tasks.

    python -m benchmarks.bench_progress

The ways of reporting take turns within one run, a batch each, so that a busy machine slows them
alike; each figure is the median over the rounds of what a call takes more than an empty function
with the same arguments.  tqdm and celery-progress are held beside where they are installed.
"""

from __future__ import annotations

import io
import random
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import median, quantiles
from typing import Any

import redis
from celery import Celery
from celery.app.task import Task
from celery.result import AsyncResult, GroupResult
from celery.signals import task_postrun, task_prerun

import jobtastic_ext
from benchmarks.bench_calls import make_app
from jobtastic_ext.plugin import handlers
from jobtastic_ext.runtime import close_runtime
from jobtastic_ext.testing.server import EmbeddedServer, server_binary

ROUNDS, BATCH = 300, 2_000
#: Calls of what writes each time.
FEW = 10
ITEMS = 100_000
CHILDREN = 10_000


@contextmanager
def running(task: Task) -> Iterator[None]:
    """Be a worker that carries out `task`, with Celery's own signals around it."""
    handlers.connect()
    task_id = uuid.uuid4().hex
    task.push_request(id=task_id, called_directly=False, is_eager=False, delivery_info={})
    from celery._state import _task_stack

    _task_stack.push(task)
    task_prerun.send(sender=task, task_id=task_id, task=task, args=(), kwargs={})
    try:
        yield
    finally:
        task_postrun.send(
            sender=task, task_id=task_id, task=task, args=(), kwargs={}, retval=None, state="X"
        )
        _task_stack.pop()
        task.pop_request()
        handlers.disconnect()


def empty(self: object, completed: int, total: int, update_frequency: int = 1) -> None: ...


def batch(way: Callable[[int], object], first: int, count: int) -> float:
    """Return the nanoseconds of one call."""
    began = time.perf_counter()
    for n in range(first, first + count):
        way(n)
    return (time.perf_counter() - began) / count * 1e9


def ways(task: Task) -> dict[str, Callable[[int, int], float]]:
    """Name each way of reporting: it takes the first number and how many, and gives the ns."""
    found: dict[str, Callable[[int, int], float]] = {}
    whole = 10**9

    def add(name: str, way: Callable[[int], object]) -> None:
        found[name] = lambda first, count: batch(way, first, count)

    here = jobtastic_ext.update_progress
    add("empty function", lambda n: empty(task, n, whole))
    add("self.update_progress", lambda n: task.update_progress(n, whole))
    add("  every 100", lambda n: task.update_progress(n, whole, 100))
    add("jobtastic_ext.update_progress", lambda n: here(n, whole))

    def plain_loop(first: int, count: int) -> float:
        began = time.perf_counter()
        for _ in range(count):
            pass
        return (time.perf_counter() - began) / count * 1e9

    def tracked_loop(first: int, count: int) -> float:
        began = time.perf_counter()
        for _ in task.track(range(count)):
            pass
        return (time.perf_counter() - began) / count * 1e9

    found["empty loop"] = plain_loop
    found["self.track"] = tracked_loop
    try:
        from tqdm import tqdm
    except ImportError:
        print("(tqdm is not installed)")
    else:
        bar = tqdm(total=whole, file=io.StringIO(), mininterval=0.25)
        add("tqdm.update", lambda n: bar.update())

        def tqdm_loop(first: int, count: int) -> float:
            began = time.perf_counter()
            for _ in tqdm(range(count), file=io.StringIO(), mininterval=0.25):
                pass
            return (time.perf_counter() - began) / count * 1e9

        found["tqdm loop"] = tqdm_loop
    try:
        from celery_progress.backend import ProgressRecorder
    except ImportError:
        print("(celery-progress is not installed)")
    else:
        recorder = ProgressRecorder(task)
        found["celery-progress"] = lambda first, count: batch(
            lambda n: recorder.set_progress(n, whole), first, FEW
        )
    return found


def overhead(task: Task) -> None:
    with running(task):
        all_ways = ways(task)
        times: dict[str, list[float]] = {name: [] for name in all_ways}
        order, first = list(all_ways), 1
        for _ in range(ROUNDS):
            random.shuffle(order)
            for name in order:
                times[name].append(all_ways[name](first, BATCH))
            first += BATCH
    print(f"{'a report':<32} {'ns a call':>10} {'more than empty (quartiles)':>34}")
    for name, taken in times.items():
        base = times["empty loop" if "loop" in name or "track" in name else "empty function"]
        extra = [a - b for a, b in zip(taken, base, strict=True)]
        low, middle, high = quantiles(extra, n=4)
        print(f"{name:<32} {median(taken):10.0f} {middle:14.0f} ({low:.0f} to {high:.0f})")


def writes(app: Celery, task: Task, client: redis.Redis) -> None:
    """Count the states that the server was given for one loop through many items."""

    def published() -> int:
        stats: Any = client.info("commandstats")
        return int(stats.get("cmdstat_publish", {"calls": 0})["calls"])

    print(f"\n{'a loop':<32} {'seconds':>10} {'writes':>8}  (by the server's own count)")
    for name, pause in ((f"{ITEMS:,} items, at once", 0.0), ("1,000 items of 2 ms", 0.002)):
        count = 1_000 if pause else ITEMS
        before, began = published(), time.perf_counter()
        with running(task):
            for n in range(count):
                if pause:
                    time.sleep(pause)
                task.update_progress(n + 1, count)
        seconds = time.perf_counter() - began
        print(f"{name:<32} {seconds:10.2f} {published() - before:8d}")


def polls(app: Celery, client: redis.Redis) -> None:
    """Time a poll of a group in which some have ended, some run, and most wait."""
    # Made by id, as in a web process, and without Celery's subscription to every one.
    children = []
    for n in range(CHILDREN):
        child = AsyncResult(uuid.uuid4().hex, app=app)
        child.jobtastic_task = "bench.report"
        children.append(child)
        if n < CHILDREN * 0.3:
            app.backend.store_result(child.id, {"rows": [n] * 10}, "SUCCESS")
        elif n < CHILDREN * 0.301:
            meta = {"progress_percent": 40.0, "time_remaining": 6.0, "elapsed": 4.0}
            app.backend.store_result(child.id, meta, "PROGRESS")
    result = GroupResult.__new__(GroupResult)
    result.__dict__.update(id="group", parent=None, results=children, _app=app)

    def processed() -> int:
        return int(client.info("stats")["total_commands_processed"])

    print(f"\n{'progress_of 10,000 tasks':<32} {'ms':>10} {'commands':>9}")
    for name in ("the first poll", "the second", "the third"):
        before, began = processed(), time.perf_counter()
        seen = jobtastic_ext.progress_of(result)
        taken = (time.perf_counter() - began) * 1e3
        print(f"{name:<32} {taken:10.0f} {processed() - before - 1:9d}")
    print(f"{seen.progress_percent:.1f} % done, {seen.time_remaining:.0f} s remaining")
    began = time.perf_counter()
    for child in children[:500]:
        child.state  # noqa: B018
    taken = (time.perf_counter() - began) * 1e3 * CHILDREN / 500
    print(f"{'AsyncResult.state of each':<32} {taken:10.0f} {CHILDREN:9d}  (from 500 of them)")


def main() -> None:
    with EmbeddedServer(shutil.which("redis-server") or server_binary()) as server:
        app = make_app(server, step=True)
        task = app.tasks["bench.other"]
        with redis.Redis.from_url(server.url(3)) as client:
            overhead(task)
            writes(app, task, client)
            polls(app, client)
        close_runtime(app)


if __name__ == "__main__":
    main()
