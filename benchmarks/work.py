"""Nine shapes of work, as tasks whose runs differ by chance.

A `Task` draws what all of its runs have in common (how long, how many items, how steep, how often
it reports, …) from wide ranges, by its seed; `Task.run` then draws one run.  The runs of a task
differ in total, from item to item, in a pace that drifts, and some in their number of items.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import NamedTuple

__all__ = ("SHAPES", "Run", "Task")


class Run(NamedTuple):
    """Its seconds, and its reports: (elapsed seconds, fraction), the start among them."""

    total: float
    samples: list[tuple[float, float]]


class Task:
    """A task of one shape.  Everything follows from `shape` and `seed`."""

    def __init__(self, shape: str, seed: str) -> None:
        rng = self.rng = random.Random(f"{shape} {seed}")
        self.shape = shape
        self.seconds = math.exp(rng.uniform(math.log(5), math.log(900)))
        self.vary_total = rng.choice([rng.uniform(0.03, 0.2), rng.uniform(0.1, 0.6)])
        self.vary_item = rng.uniform(0.05, 0.5)
        self.drift = rng.choice([0.0, rng.uniform(0, 0.06)])
        self.items = int(math.exp(rng.uniform(math.log(25), math.log(600))))
        self.vary_items = rng.random() < 0.3
        #: Reports by time, as a throttled or a polled task makes them, not by item.
        self.by_time = rng.random() < 0.4
        self.reports = rng.choice([20, 50, 100])
        self.power, self.exponential = rng.uniform(1, 3), rng.choice([True, False])
        self.steep, self.rate = rng.uniform(0.85, 0.98), rng.uniform(1.5, 4)
        self.cut = rng.uniform(0.2, 0.8)
        self.ratio = math.exp(rng.uniform(math.log(3), math.log(15)))
        self.slower = rng.choice([True, False])
        self.vary_phase = rng.choice([0.0, rng.uniform(0, 0.6)])
        self.shift = rng.choice([0.0, rng.uniform(0, 0.05)])
        self.stall, self.stall_at = rng.uniform(0.2, 0.7), rng.uniform(0.25, 0.75)
        self.stairs = [rng.lognormvariate(0, 0.5) for _ in range(rng.randint(4, 12))]
        self.pareto = rng.choice([True, False])
        self.tail, self.sigma = rng.uniform(1.15, 2.2), rng.uniform(1, 1.8)
        self.often, self.longer = rng.uniform(0.25, 0.6), rng.uniform(2.5, 6)
        sizes = [sum(WEIGHTS[shape](self, self.items)) / self.items for _ in range(20)]
        self.mean = sorted(sizes)[10]

    def run(self) -> Run:
        """Draw the next run."""
        rng = self.rng
        count = self.items
        if self.vary_items:
            count = max(10, int(count * rng.lognormvariate(0, 0.4)))
        scale = self.seconds * rng.lognormvariate(0, self.vary_total) / (self.mean * self.items)
        if self.shape == "bimodal" and rng.random() < self.often:
            scale *= self.longer
        elapsed = pace = 0.0
        course = [(0.0, 0.0)]
        for done, weight in enumerate(WEIGHTS[self.shape](self, count), 1):
            if self.shape != "heavy-tailed":
                pace = 0.97 * pace + rng.gauss(0, self.drift)
                weight *= rng.gammavariate(self.vary_item**-2, self.vary_item**2) * math.exp(pace)
            elapsed += weight * scale
            course.append((elapsed, done / count))
        return Run(elapsed, self.reported(course))

    def reported(self, course: list[tuple[float, float]]) -> list[tuple[float, float]]:
        count, total = len(course) - 1, course[-1][0]
        if not self.by_time:
            return course[: -1 : max(1, count // self.reports)]
        samples, done = [], 0
        for tick in range(self.reports):
            elapsed = total * tick / self.reports
            while course[done + 1][0] <= elapsed:
                done += 1
            samples.append((elapsed, course[done][1]))
        return samples


def places(count: int) -> list[float]:
    return [(item + 0.5) / count for item in range(count)]


def uniform(task: Task, count: int) -> list[float]:
    return [1.0] * count


def accelerating(task: Task, count: int) -> list[float]:
    if task.exponential:
        return [math.exp(-task.rate * place) for place in places(count)]
    return [(1 - task.steep * place) ** task.power for place in places(count)]


def decelerating(task: Task, count: int) -> list[float]:
    return accelerating(task, count)[::-1]


def two_phase(task: Task, count: int) -> list[float]:
    rng = task.rng
    cut = min(0.95, max(0.05, task.cut + rng.gauss(0, task.shift)))
    first, second = (rng.lognormvariate(0, task.vary_phase) for _ in range(2))
    ratio = task.ratio if task.slower else 1 / task.ratio
    return [first if place < cut else second * ratio for place in places(count)]


def stall(task: Task, count: int) -> list[float]:
    rng = task.rng
    weights = [1.0] * count
    where = int(count * (task.stall_at + rng.gauss(0, task.shift)))
    length = task.stall / (1 - task.stall) * rng.lognormvariate(0, max(0.1, task.vary_phase))
    weights[min(count - 2, max(1, where))] = count * length
    return weights


def late_burst(task: Task, count: int) -> list[float]:
    return [1.0 if place < task.cut / 2 else 1 / task.ratio / 3 for place in places(count)]


def staircase(task: Task, count: int) -> list[float]:
    weights = [0.02] * count
    for step, height in enumerate(task.stairs):
        where = min(count - 1, int(count * (step + 0.5) / len(task.stairs)))
        varied = height * task.rng.lognormvariate(0, task.vary_item)
        weights[where] += count / len(task.stairs) * varied
    return weights


def heavy_tailed(task: Task, count: int) -> list[float]:
    if task.pareto:
        return [task.rng.paretovariate(task.tail) for _ in range(count)]
    return [task.rng.lognormvariate(0, task.sigma) for _ in range(count)]


#: Each shape draws the expected weights of a run's items.
WEIGHTS: dict[str, Callable[[Task, int], list[float]]] = {
    "uniform": uniform,
    "accelerating": accelerating,
    "decelerating": decelerating,
    "two-phase": two_phase,
    "stall": stall,
    "late burst": late_burst,
    "staircase": staircase,
    "heavy-tailed": heavy_tailed,
    "bimodal": uniform,
}

SHAPES = tuple(WEIGHTS)
