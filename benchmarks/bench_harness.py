"""What the pytest fixture costs a test, in milliseconds of processor time.

    python benchmarks/bench_harness.py

All take turns, so that a busy machine slows them alike; each figure is the median of the rounds.
The measure is what a test of an app costs without it: a new app in memory, and one eager call.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median

from celery import Celery

from jobtastic_ext.testing.harness import Harness

ROUNDS = 60

POLICY = {"tasks": {"bench.work": {"cache_duration": "1h"}}}

app = Celery("bench", broker="redis://localhost:1", backend="redis://localhost:1")


@app.task(name="bench.work", shared=False)
def work(x: int) -> int:
    return x


def fixture() -> None:
    harness = Harness()
    harness.policy(app, POLICY)
    harness.close()


def fixture_and_calls() -> None:
    harness = Harness()
    harness.policy(app, POLICY)
    harness.assert_joined(work.delay(1), work.delay(1))
    harness.assert_runs(work, 1)
    harness.close()


def eager() -> None:
    other = Celery("other", broker="memory://", backend="cache+memory://", set_as_current=False)
    other.conf.task_always_eager = True

    @other.task(name="bench.other", shared=False)
    def task(x: int) -> int:
        return x

    task.delay(1)


def main() -> None:
    ways: dict[str, Callable[[], None]] = {
        "a new app and one eager call": eager,
        "the fixture and its policy": fixture,
        "the same, with two calls and their run": fixture_and_calls,
    }
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, way in ways.items():
            began = time.process_time()
            way()
            taken[name].append(time.process_time() - began)
    measure = median(next(iter(taken.values())))
    for name, times in taken.items():
        print(f"{name:<40} {median(times) * 1000:6.2f} ms {median(times) / measure:6.2f} x")


if __name__ == "__main__":
    main()
