"""What one operation costs on each store, beside Redis: a first call, one that joins, a cached one.

    python -m benchmarks.bench_stores

Servers of its own; what is not installed is left out.  The stores take turns within one run, a
batch each; each figure is the median of the batches, and its ratio that of neighbours.
"""

from __future__ import annotations

import random
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from statistics import median

import pytest

from jobtastic_ext.claims.records import ClaimCall, Finish
from jobtastic_ext.stores import Store, open_store
from jobtastic_ext.testing.server import EmbeddedServer, server_binary
from tests.databases import MariaDB, PostgreSQL
from tests.memcached import Memcached

ROUNDS, BATCH = 30, 20


def open_all(stack: ExitStack) -> Iterator[tuple[str, Store]]:
    redis = stack.enter_context(EmbeddedServer(shutil.which("redis-server") or server_binary()))
    file = Path(stack.enter_context(tempfile.TemporaryDirectory()), "claims.sqlite3")
    urls: dict[str, Callable[[], str]] = {
        "Redis": lambda: redis.url(0),
        "memory": lambda: "memory://bench",
        "SQLite": lambda: f"sqlite:///{file}",
        "memcached": lambda: f"memcached://127.0.0.1:{stack.enter_context(Memcached()).port}",
        "PostgreSQL": lambda: f"db+{stack.enter_context(PostgreSQL()).url}",
        "MariaDB": lambda: f"db+{stack.enter_context(MariaDB()).url}",
    }
    for name, url in urls.items():
        # A server that is not installed skips what needs it, as in the tests.
        with suppress(pytest.skip.Exception):
            store = open_store(url(), timeout=10)
            stack.callback(store.close)
            yield name, store


def ways(store: Store) -> dict[str, Callable[[], object]]:
    count = iter(range(10**9))

    def call(key: str) -> object:
        n = next(count)
        return store.apply(key, ClaimCall(task_id=f"t{n}", gen=f"g{n}", hold=3_600_000))

    call("joined")
    fields = {"run": "r", "gen": "g", "fresh": 3_600_000, "stale": 0, "keep": 0, "hold": 1}
    store.apply("cached", Finish(task_id="t", unclaimed=True, **fields))
    return {
        "first": lambda: call(f"first-{next(count)}"),
        "joined": lambda: call("joined"),
        "cached": lambda: call("cached"),
    }


def batch(way: Callable[[], object]) -> float:
    """Return the microseconds of one call."""
    began = time.perf_counter()
    for _ in range(BATCH):
        way()
    return (time.perf_counter() - began) / BATCH * 1e6


def main() -> None:
    """Start the servers, and print what each store takes, in microseconds and times Redis."""
    with ExitStack() as stack:
        every = {name: ways(store) for name, store in open_all(stack)}
        times: dict[tuple[str, str], list[float]] = {
            (name, way): [] for name, found in every.items() for way in found
        }
        order = list(times)
        for _ in range(ROUNDS):
            random.shuffle(order)
            for name, way in order:
                times[name, way].append(batch(every[name][way]))
    print(f"{'store':<12}" + "".join(f"{way:>9} µs  x Redis" for way in every["Redis"]))
    for name, found in every.items():
        cells = []
        for way in found:
            mine, redis = times[name, way], times["Redis", way]
            ratio = median(a / b for a, b in zip(mine, redis, strict=True))
            cells.append(f"{median(mine):12.0f} {ratio:8.1f}")
        print(f"{name:<12}" + "".join(cells))


if __name__ == "__main__":
    main()
