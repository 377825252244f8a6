"""What another process sees while a real worker runs, and what it costs the result backend."""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import Any

import pytest
import redis

from jobtastic_ext.runtime import runtime_of
from jobtastic_ext.testing.server import EmbeddedServer
from tests.integration.conftest import wait_until
from tests.integration.steps import Steps, Watcher, start_steps, steps

__all__ = ("start_steps", "steps")

TIMEOUT = 30


def writes(url: str) -> int:
    """How often a state was written, by the server's own statistics."""
    with redis.Redis.from_url(url) as client:
        stats = client.info("commandstats")
    return int(stats.get("cmdstat_publish", {"calls": 0})["calls"])


@pytest.mark.parametrize("name", ["count", "plain"])
def test_a_thousand_items(steps: Steps, unique: str, name: str) -> None:
    result = steps.task(name).delay(1000, 0.004)
    with Watcher(result) as watcher:
        spent = result.get(timeout=TIMEOUT)
        wait_until(lambda: watcher.seen[-1][1] == "SUCCESS")
    percents = watcher.percents()
    assert watcher.states() == (["PENDING"] if watcher.states()[0] == "PENDING" else []) + [
        "PROGRESS",
        "SUCCESS",
    ]
    assert percents == sorted(percents)
    assert len(percents) >= 8
    if name == "count":
        assert percents[0] == 0
    for meta in watcher.progress()[3:]:
        assert meta["total"] == 1000
        assert meta["progress_percent"] == pytest.approx(meta["completed"] / 10)
        left = meta["elapsed"] * (1000 - meta["completed"]) / meta["completed"]
        assert meta["time_remaining"] == pytest.approx(left, rel=0.75, abs=0.5)
    moments = [moment for moment, state, _ in watcher.seen if state == "PROGRESS"]
    assert len(moments) <= 5 * (moments[-1] - moments[0]) + 3
    assert spent < 0.5


def test_how_often_the_backend_is_written(start_steps: Any) -> None:
    with EmbeddedServer() as backend:  # of its own: a broker publishes, too
        steps: Steps = start_steps(result_backend=backend.url(0))
        steps.worker(concurrency=1)
        steps.task("plain").delay(1, 0).get(timeout=TIMEOUT)
        for options, most in (((1000, 0.002), 4), ((1000, 0.002, 250), 4), ((10_000, 0), 4)):
            before, began = writes(backend.url(0)), time.monotonic()
            steps.task("count").delay(*options).get(timeout=TIMEOUT)
            seconds = time.monotonic() - began
            # The start, the end, the result itself; and some a second in between.
            assert 3 <= writes(backend.url(0)) - before <= most * seconds + 4, (options, seconds)


def test_a_loop(steps: Steps, unique: str) -> None:
    result = steps.task("loop").delay(12, 0.15)
    with Watcher(result) as watcher:
        assert result.get(timeout=TIMEOUT) == 12
    percents = watcher.percents()
    assert percents[0] == 0
    assert percents == sorted(percents)
    assert len(percents) > 4
    assert watcher.progress()[-1]["message"] == "walking"


def test_without_self(steps: Steps, unique: str) -> None:
    result = steps.task("unbound").delay(8, 0.2)
    with Watcher(result) as watcher:
        assert result.get(timeout=TIMEOUT) == 3
    percents = watcher.percents()
    assert percents == sorted(percents)
    assert len([p for p in percents if 0 < p < 100]) > 3


def test_what_was_held_back_is_shown_all_the_same(steps: Steps, unique: str) -> None:
    result = steps.task("burst").delay(1.5)
    with Watcher(result) as watcher:
        result.get(timeout=TIMEOUT)
    assert watcher.percents()[-1] == 75


def test_a_failure_is_not_replaced(steps: Steps, unique: str) -> None:
    result = steps.task("fails").delay(unique)
    with Watcher(result) as watcher:
        with pytest.raises(ValueError, match=unique):
            result.get(timeout=TIMEOUT)
        time.sleep(1)
    assert watcher.states()[-2:] == ["PROGRESS", "FAILURE"]


def test_a_retry_starts_again(steps: Steps, unique: str) -> None:
    result = steps.task("again").delay(unique)
    with Watcher(result) as watcher:
        assert result.get(timeout=TIMEOUT) == 1
    states = [state for state in watcher.states() if state != "PENDING"]
    assert states[-4:] == ["PROGRESS", "RETRY", "PROGRESS", "SUCCESS"]
    second = [i for i, (_, state, _) in enumerate(watcher.seen) if state == "RETRY"][-1]
    again = [meta for _, state, meta in watcher.seen[second:] if state == "PROGRESS"]
    assert again[0]["progress_percent"] == 0
    assert again[0]["elapsed"] < 0.5
    assert again[0]["attempt"] == 2
    first = next(meta for _, state, meta in watcher.seen if state == "PROGRESS")
    assert "attempt" not in first
    assert first["begun"] < again[0]["begun"] <= time.time()
    percents = [meta["progress_percent"] for meta in again]
    assert percents == sorted(percents)


def test_eager_and_direct_calls_within_a_task_show_nothing(steps: Steps, unique: str) -> None:
    result = steps.task("outer").delay(unique)
    with Watcher(result) as watcher:
        result.get(timeout=TIMEOUT)
    assert set(watcher.percents()) == {0, 25, 50}


def test_eager_and_direct_calls_in_a_producer(steps: Steps) -> None:
    assert steps.task("inner")() == 9
    assert steps.task("inner").apply().get() == 9
    result = steps.task("loop").apply((2, 0))
    assert result.get() == 2
    key = steps.app.backend.get_key_for_task(result.id)
    assert steps.app.backend.client.get(key) is None


def test_an_ignored_result(steps: Steps, unique: str) -> None:
    result = steps.task("ignored").delay(unique)
    wait_until(lambda: [n for n in steps.app.notes.read("ignored") if n["x"] == unique])
    time.sleep(0.5)
    assert result.state == "PENDING"


def test_a_soft_time_limit_gets_through(steps: Steps, unique: str) -> None:
    # It is an `Exception` raised in the main thread, most likely in the midst of a report.
    result = steps.task("limited").delay(unique)
    with pytest.raises(Exception, match="SoftTimeLimitExceeded"):
        result.get(timeout=TIMEOUT)


def test_odd_reports_fail_nothing(steps: Steps, unique: str) -> None:
    assert steps.task("odd").delay(unique).get(timeout=TIMEOUT) == "fine"


def test_states_of_the_task_itself_are_its_own(steps: Steps, unique: str) -> None:
    result = steps.task("own").delay(unique)
    with Watcher(result) as watcher:
        result.get(timeout=TIMEOUT)
    states = [state for state in watcher.states() if state != "PENDING"]
    assert states == ["PROGRESS", "PHASE", "PROGRESS", "SUCCESS"]


def test_a_caller_who_joins_sees_the_progress(steps: Steps, unique: str) -> None:
    first = steps.task("count").delay(100, 0.02)
    second = steps.task("count").delay(items=100, pause=0.02)
    wait_until(lambda: second.state == "PROGRESS")
    assert second.info["key"]
    assert first.get(timeout=TIMEOUT) == second.get(timeout=TIMEOUT)


def test_a_silent_task_learns_to_show_percent_and_time(steps: Steps, unique: str) -> None:
    silent = steps.task("silent")
    first = silent.delay(1.5, group=unique)
    with Watcher(first) as watcher:
        first.get(timeout=TIMEOUT)
    assert watcher.progress()[0]["progress_percent"] == 0
    for _ in range(2):
        time.sleep(1.1)  # other processes trust what they know for a second
        silent.delay(1.5, group=unique).get(timeout=TIMEOUT)
    time.sleep(1.1)
    result = silent.delay(4, group=unique)
    with Watcher(result) as watcher:
        result.get(timeout=TIMEOUT)
    shown = watcher.progress()
    assert shown[0]["progress_percent"] == 0
    assert shown[0]["time_remaining"] == pytest.approx(1.5, abs=1)
    percents = watcher.percents()
    assert percents == sorted(percents)
    assert 20 < percents[1] < 100
    assert percents[-1] < 100
    assert all(meta["estimated"] for meta in shown[1:])
    other = silent.delay(1, group=f"{unique}-other")
    wait_until(lambda: other.state == "PROGRESS")
    assert other.info["time_remaining"] > 0  # nothing is known of its group, but of the task
    other.get(timeout=TIMEOUT)


@pytest.mark.parametrize("store", ["redis", "sqlite"])
def test_workers_that_end_at_once_are_all_learnt(start_steps: Any, unique: str, store: str) -> None:
    steps: Steps = start_steps(store)
    for _ in range(2):
        steps.worker(concurrency=4)
    silent = steps.task("silent")
    results = [silent.delay(1 + n / 1e6, unique) for n in range(8)]
    for result in results:
        result.get(timeout=TIMEOUT)
    runtime = runtime_of(steps.app)
    assert runtime is not None
    plan = runtime.plan(silent)
    assert plan is not None
    names = runtime.histories.names(plan, silent.name, (1, unique), {})

    def learnt() -> list[int]:
        return [one.history.runs for one in runtime.histories.load_many(names).values()]

    wait_until(lambda: learnt() == [8, 8], why="not all runs were learnt")
    logs = "".join(worker.output() for worker in steps.workers)
    assert "is not learnt" not in logs


def test_a_failure_teaches_nothing(steps: Steps, unique: str) -> None:
    for n in range(2):
        with pytest.raises(ValueError, match=unique):
            steps.task("fails").delay(f"{unique}-{n}", 0.1).get(timeout=TIMEOUT)
    time.sleep(1.2)
    result = steps.task("fails").delay(f"{unique}-last", 1)
    wait_until(lambda: result.state == "PROGRESS")
    seen = result.info
    assert "estimated" not in seen
    with pytest.raises(ValueError, match=unique):
        result.get(timeout=TIMEOUT)


@pytest.mark.parametrize("pool", ["threads", "solo", "gevent"])
def test_pool(start_steps: Any, unique: str, pool: str) -> None:
    steps: Steps = start_steps()
    steps.worker(pool=pool, concurrency=1 if pool == "solo" else 8)
    calls = [("count", (30 + n, 0.1)) for n in range(3)]
    calls += [("loop", (10 + n, 0.3)) for n in range(3)]
    results, watchers = [], []
    with ExitStack() as stack:
        for name, args in [*calls, ("burst", (1.5,))]:
            results.append(steps.task(name).delay(*args))
            watchers.append(stack.enter_context(Watcher(results[-1], every=0.1)))
        for result in results:
            result.get(timeout=TIMEOUT)
    for watcher in watchers:
        assert watcher.percents() == sorted(watcher.percents())
        assert len(set(watcher.percents())) >= (2 if watcher is watchers[-1] else 4)
    assert watchers[-1].percents()[-1] == 75
    assert "Traceback" not in "".join(w.output() for w in steps.workers)


def test_track_started_and_extended_results(start_steps: Any, unique: str) -> None:
    steps: Steps = start_steps(task_track_started=True, result_extended=True)
    steps.worker(concurrency=1)
    result = steps.task("count").delay(60, 0.02)
    with Watcher(result) as watcher:
        result.get(timeout=TIMEOUT)
    assert watcher.percents()[0] == 0
    assert watcher.states()[-1] in ("PROGRESS", "SUCCESS")
