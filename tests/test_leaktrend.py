"""The arithmetic of trends: leaks are found, and what only looks like one is not."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable

import pytest

from jobtastic_ext.memory.trend import Growth, Trend, slope

#: From the number of a run, the level before it and a source of chance to the level after it (MB).
Step = Callable[[int, float, random.Random], float]


def reports(step: Step, runs: int, seed: int = 0) -> list[tuple[int, Growth]]:
    """Return what would be told, each with the number of the run."""
    trend, chance, level, found = Trend(), random.Random(seed), 50.0, []
    for run in range(runs):
        level = step(run, level, chance)
        trend.add(level)
        growth = trend.due()
        if growth is not None:
            trend.report(growth)
            found.append((run, growth))
    return found


def noise(run: int, level: float, chance: random.Random) -> float:
    return 50 + abs(chance.gauss(0, 3))


def filling(keys: int, size: float) -> Step:
    cached: set[int] = set()

    def step(run: int, level: float, chance: random.Random) -> float:
        key = chance.randrange(keys)
        new = key not in cached
        cached.add(key)
        return level + size * new

    return step


@pytest.mark.parametrize(
    ("step", "per_run", "at_most"),
    [
        (lambda run, level, chance: level + 1, 1.0, 80),
        (lambda run, level, chance: level + 0.3, 0.3, 130),
        (lambda run, level, chance: level + 0.05, 0.05, 100),
        (lambda run, level, chance: level + (run % 10 == 0), 0.1, 130),
        (lambda run, level, chance: level + (chance.random() < 0.1), 0.1, 300),
        (lambda run, level, chance: level + 0.05 * (run > 1000), 0.05, 1100),
        (lambda run, level, chance: level + (run < 30) + 0.05 * (run > 1000), 0.05, 1700),
        (lambda run, level, chance: level + 5 * (run % 100 == 50), 0.05, 1500),
        (lambda run, level, chance: level + 0.005, 0.005, 500),
    ],
)
def test_leaks_are_found(step: Step, per_run: float, at_most: int) -> None:
    found = reports(step, at_most)
    assert found
    assert found[0][1].per_run == pytest.approx(per_run, rel=0.5)


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize(
    "make",
    [
        lambda: lambda run, level, chance: level,
        lambda: noise,
        lambda: lambda run, level, chance: level + chance.choice((-0.004, 0.004)),
        lambda: lambda run, level, chance: level + (run < 30),
        lambda: lambda run, level, chance: level + 0.5 * (run < 60),
        lambda: filling(30, 1.0),
        lambda: filling(60, 0.5),
        lambda: lambda run, level, chance: level + 100 * (run == 150),
        lambda: lambda run, level, chance: level + 30 * (run in (0, 20)),
        lambda: lambda run, level, chance: 50 + run % 70 * 0.3,
    ],
    ids=[
        "flat",
        "noise",
        "walk",
        "fill",
        "fill-slowly",
        "random-30",
        "random-60",
        "once",
        "imports",
        "sawtooth",
    ],
)
def test_what_levels_off_or_comes_back_is_no_leak(make: Callable[[], Step], seed: int) -> None:
    assert reports(make(), 1000, seed) == []


def test_a_leak_is_told_once_and_again_each_time_it_has_doubled() -> None:
    totals = [growth.total for _, growth in reports(lambda run, level, _: level + 0.05, 3000)]
    assert len(totals) == 6
    assert all(1.9 < b / a < 2.2 for a, b in itertools.pairwise(totals))


def test_after_it_has_levelled_off_a_leak_is_another_episode() -> None:
    found = reports(lambda run, level, _: level + 0.1 * (run < 200 or run > 2000), 2600)
    runs = [run for run, _ in found]
    assert runs[0] < 150
    assert any(2000 < run < 2400 for run in runs)
    assert not any(500 < run < 2000 for run in runs)


def test_what_proved_to_be_no_leak_takes_longer_to_be_believed() -> None:
    trend, found = Trend(), []
    for run in range(1000):
        trend.add(run * 0.05)
        if trend.due() is not None:
            trend.distrust()
            found.append(run)
    waits = [b - a for a, b in itertools.pairwise(found)]
    assert waits == sorted(waits)
    assert waits[1] > 1.8 * found[0]


def test_a_window_holds_few_numbers_however_many_runs_there_are() -> None:
    trend = Trend()
    for run in range(20_000):
        trend.add(run * 0.01)
    assert all(len(window.blocks) < 48 for window in trend._windows)


def test_the_slope_is_the_median_of_all_pairs() -> None:
    assert slope([0, 1, 2, 3, 100]) == 1
    assert slope([3, 2, 1]) == -1
