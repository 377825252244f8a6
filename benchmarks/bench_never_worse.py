"""Bare Celery and a task with a policy, side by side, while the broker is slow, full or away.

    python -m benchmarks.bench_never_worse

Each side has a broker of its own (the store and the result backend are on a third server), and the
sides take turns.  `jobtastic` is a task with a policy and no fallback, which Celery's own patience
sends; `fallback` is one with `on_broker_error: fail`, whose calls end within their deadline.
"""

from __future__ import annotations

import logging
import os
import shutil
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import count
from typing import Any, NamedTuple

import redis
from celery import Celery

from jobtastic_ext import JobtasticStep
from jobtastic_ext.runtime import close_runtime
from jobtastic_ext.testing.server import EmbeddedServer, server_binary

__all__ = ("SCENARIOS", "SIDES", "Seen", "compare")

#: What the step and the policy are, for each side.
SIDES: dict[str, tuple[bool, str]] = {
    "bare": (False, "raise"),
    "jobtastic": (True, "raise"),
    "fallback": (True, "fail"),
}

#: Makes each app's messages its own.
numbers = count()


class Seen(NamedTuple):
    """What became of the calls of one side."""

    calls: int
    failed: int
    #: To the broker, the most that were open at once.
    connections: int
    #: Seconds.
    slowest: float


class Side:
    """An app, and the broker that is its own."""

    def __init__(
        self, broker: EmbeddedServer, other: EmbeddedServer, name: str, **settings: Any
    ) -> None:
        step, mode = SIDES[name]
        self.broker = broker
        self.app = Celery(f"never-worse-{name}-{next(numbers)}", set_as_current=False)
        self.app.conf.update(
            broker_url=f"redis://localhost:{broker.port}/0",
            result_backend=f"redis://localhost:{other.port}/1",
            jobtastic_store=f"redis://localhost:{other.port}/2",
            jobtastic_policy={"tasks": {"bench.task": {"on_broker_error": mode}}},
            jobtastic_key_prefix=f"never-worse-{next(numbers)}",
            **settings,
        )
        if step:
            self.app.steps["worker"].add(JobtasticStep)

        @self.app.task(name="bench.task", shared=False)
        def task(x: Any) -> None: ...

        self.app.finalize()
        self.task = task
        self.watch = redis.Redis(port=broker.port)

    def close(self) -> None:
        close_runtime(self.app)
        self.app.close()
        self.watch.close()

    def burst(self, threads: int, calls: int) -> Seen:
        """Call from many threads that begin at once, `calls` times each."""
        barrier, times, failed = threading.Barrier(threads + 1), [], []
        before = int(self.watch.info("stats")["total_connections_received"])

        def call() -> None:
            barrier.wait()
            for _ in range(calls):
                began = time.perf_counter()
                try:
                    result = self.task.delay(next(numbers))
                    if result._cache is not None:
                        failed.append(result.result)
                except Exception as error:  # noqa: BLE001 - counted
                    failed.append(error)
                times.append(time.perf_counter() - began)

        running = [threading.Thread(target=call) for _ in range(threads)]
        for thread in running:
            thread.start()
        barrier.wait()
        for thread in running:
            thread.join()
        after = int(self.watch.info("stats")["total_connections_received"])
        return Seen(len(times), len(failed), after - before, max(times))


@contextmanager
def nothing(side: Side) -> Iterator[None]:
    yield


def pausing(seconds: float) -> Callable[[Side], Any]:
    """The broker stops for a while, in the middle of the calls."""

    @contextmanager
    def scenario(side: Side) -> Iterator[None]:
        def pause() -> None:
            time.sleep(0.1)
            os.kill(side.broker.pid, signal.SIGSTOP)
            try:
                time.sleep(seconds)
            finally:
                os.kill(side.broker.pid, signal.SIGCONT)

        side.task.delay(next(numbers))  # connections are open
        thread = threading.Thread(target=pause)
        thread.start()
        yield
        thread.join()

    return scenario


@contextmanager
def slow_name(side: Side) -> Iterator[None]:
    """The first look-up of each server's name takes 1.2 s."""
    usual, known = socket.getaddrinfo, set()

    def slow(host: Any, port: Any, *rest: Any, **options: Any) -> Any:
        if port not in known:
            time.sleep(1.2)
            known.add(port)
        return usual(host, port, *rest, **options)

    socket.getaddrinfo = slow
    try:
        yield
    finally:
        socket.getaddrinfo = usual


def full(clients: int) -> Callable[[Side], Any]:
    """The broker takes so many clients and no more."""

    @contextmanager
    def scenario(side: Side) -> Iterator[None]:
        side.watch.config_set("maxclients", clients)
        try:
            yield
        finally:
            side.watch.config_set("maxclients", 10_000)

    return scenario


#: Name -> what happens meanwhile, threads, and calls of each.
SCENARIOS: dict[str, tuple[Callable[[Side], Any], int, int]] = {
    "80 threads at once": (nothing, 80, 15),
    "a broker that pauses for 0.8 s": (pausing(0.8), 12, 100),
    "a broker that pauses for 1.3 s": (pausing(1.3), 12, 100),
    "a name that takes 1.2 s": (slow_name, 4, 5),
    "a broker that takes 26 clients": (full(26), 80, 15),
}


def compare(
    name: str, threads: int = 0, calls: int = 0, sides: Any = SIDES, **settings: Any
) -> dict[str, Seen]:
    """Return what became of each side's calls; fewer of them, if that is asked for."""
    scenario, usual_threads, usual_calls = SCENARIOS[name]
    seen = {}
    binary = shutil.which("redis-server") or server_binary()
    for each in sides:
        with ExitStack() as stack:
            broker = stack.enter_context(EmbeddedServer(binary))
            other = stack.enter_context(EmbeddedServer(binary))
            side = Side(broker, other, each, **settings)
            stack.callback(side.close)
            with scenario(side):
                seen[each] = side.burst(threads or usual_threads, calls or usual_calls)
    return seen


def main() -> None:
    """Print the table."""
    logging.getLogger("jobtastic_ext").setLevel(logging.ERROR)  # of outages that are meant
    print(f"{'while':<32} {'side':<10} {'calls':>6} {'failed':>7} {'connections':>12}  slowest")
    for name in SCENARIOS:
        for side, seen in compare(name).items():
            print(
                f"{name:<32} {side:<10} {seen.calls:>6} {seen.failed:>7} {seen.connections:>12}"
                f"  {seen.slowest:6.2f} s"
            )


if __name__ == "__main__":
    main()
