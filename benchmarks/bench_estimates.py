"""How far estimates of the time remaining are off, ours and the peers', over nine shapes of work.

    python -m benchmarks.bench_estimates [seed]

The error of a report is |estimate - truth| / total time of the run, at most 1, and 1 for no
estimate at all; that of a run is the mean over its reports after the first progress.  tqdm and
rich run themselves, on a clock that is set; `jobtastic`'s straight line and the running average of
`AVGTimeRedis` (half the way to the last duration) are restated, the latter without the time in the
queue that it counts in.  The seeds here are not those by which the estimates were tuned.
"""

from __future__ import annotations

import io
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from statistics import fmean, median

from rich.console import Console
from rich.progress import Progress

from jobtastic_ext.estimates.estimator import History, estimate

from .work import SHAPES, Run, Task

try:
    from tqdm import tqdm
except ImportError:  # of the extra [bench]
    tqdm = None

TASKS, JUDGED = 20, 4
HISTORIES = (0, 1, 3, 10)
SEED = "bench"

#: The most reports of a run that are judged.
REPORTS = 40

Remaining = list[float | None]


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def by_rich(run: Run) -> Remaining:
    clock, found = Clock(), []
    console = Console(file=io.StringIO())
    progress = Progress(console=console, auto_refresh=False, get_time=clock)
    progress.add_task("", total=1.0)
    (task,) = progress.tasks
    for clock.now, fraction in run.samples:
        progress.update(task.id, completed=fraction)
        found.append(task.time_remaining)
    return found


def by_tqdm(run: Run) -> Remaining:
    clock, found = Clock(), []
    tqdm.monitor_interval = 0
    bar = tqdm(total=1.0, file=io.StringIO(), mininterval=0, miniters=0)
    bar._time, bar.start_t, bar.last_print_t = clock, 0.0, 0.0
    for clock.now, fraction in run.samples:
        if fraction > bar.n:
            bar.update(fraction - bar.n)
        said = bar.format_dict
        # As its `format_meter` does it.
        rate = said["rate"] or (said["n"] / said["elapsed"] if said["elapsed"] else 0)
        found.append((1 - said["n"]) / rate if rate else None)
    bar.close()
    return found


def by_line(run: Run) -> Remaining:
    return [t / f * (1 - f) if f > 0 else None for t, f in run.samples]


PEERS = {"straight line": by_line, "rich": by_rich} | ({"tqdm": by_tqdm} if tqdm else {})


def by_average(run: Run, past: list[Run]) -> Remaining:
    average = past[0].total
    for one in past[1:]:
        average = (average + one.total) / 2
    return [max(0.0, average - elapsed) for elapsed, _ in run.samples]


def judged(run: Run) -> Iterator[int]:
    """Number the reports that count: some of those after the first progress."""
    numbers = [n for n, (elapsed, done) in enumerate(run.samples) if elapsed > 0 and done > 0]
    yield from numbers[:: max(1, len(numbers) // REPORTS)]


def error(run: Run, found: Remaining) -> float | None:
    off = []
    for number in judged(run):
        said, rest = found[number], run.total - run.samples[number][0]
        off.append(1.0 if said is None else min(1.0, abs(said - rest) / run.total))
    return fmean(off) if off else None


class Tally:
    """Errors by way, history and shape; and what only ours can tell."""

    def __init__(self) -> None:
        self.errors: dict[tuple[str, int, str], list[float]] = defaultdict(list)
        self.held: dict[tuple[int, str], list[bool]] = defaultdict(list)
        self.jumps: dict[int, list[int]] = defaultdict(list)
        self.took: list[float] = []

    def add(self, way: str, runs: int, shape: str, run: Run, found: Remaining) -> None:
        off = error(run, found)
        if off is not None:
            self.errors[way, runs, shape].append(off)

    def ours(self, runs: int, shape: str, run: Run, history: History) -> None:
        found: Remaining = [None] * len(run.samples)
        before, jumps = None, 0
        for number in judged(run):
            began = time.perf_counter()
            said = estimate(history, run.samples[: number + 1])
            self.took.append(time.perf_counter() - began)
            found[number] = said.seconds
            rest = run.total - run.samples[number][0]
            self.held[runs, shape].append(said.low <= rest <= said.high)
            jumps += before is not None and said.seconds - before > 0.2 * run.total
            before = said.seconds
        self.jumps[runs].append(jumps)
        self.add("ours", runs, shape, run, found)

    def task(self, task: Task) -> None:
        shape = task.shape
        past = [task.run() for _ in range(max(HISTORIES))]
        present = [task.run() for _ in range(JUDGED)]
        for runs in HISTORIES:
            history = History()
            for one in past[len(past) - runs :]:
                history = history.record(one.samples, one.total)
            for run in present:
                self.ours(runs, shape, run, history)
                if runs:
                    known = by_average(run, past[len(past) - runs :])
                    self.add("AVGTimeRedis", runs, shape, run, known)
        for run in present:
            for way, by in PEERS.items():
                found = by(run)
                for runs in HISTORIES:
                    self.add(way, runs, shape, run, found)

    def show(self, runs: int) -> None:
        print(f"\n{runs or 'no'} past run{'s' * (runs != 1)}")
        print(f"{'mean error':<16}" + "".join(f"{shape:>13}" for shape in SHAPES) + "     all")
        ways = ("ours", *PEERS, "AVGTimeRedis")
        means = {
            way: [fmean(self.errors[way, runs, shape]) for shape in SHAPES]
            for way in ways
            if (way, runs, SHAPES[0]) in self.errors
        }
        for way, row in means.items():
            print(f"{way:<16}" + "".join(f"{x:13.3f}" for x in row) + f"{fmean(row):8.3f}")
        best = [min(row[n] for way, row in means.items() if way != "ours") for n in range(9)]
        ratios = [mine / other for mine, other in zip(means["ours"], best, strict=True)]
        print(f"{'ours / best peer':<16}" + "".join(f"{x:13.2f}" for x in ratios))
        held = [fmean(self.held[runs, shape]) for shape in SHAPES]
        print(f"{'held by 80 %':<16}" + "".join(f"{x:13.2f}" for x in held) + f"{fmean(held):8.2f}")
        print(f"jumps of over 20 % in a run of ours: {median(self.jumps[runs]):.0f} at the median")


def main(seed: str = SEED) -> None:
    tally = Tally()
    for shape in SHAPES:
        for number in range(TASKS):
            tally.task(Task(shape, f"{seed} {number}"))
    for runs in HISTORIES:
        tally.show(runs)
    print(f"\nan estimate takes {median(tally.took) * 1e6:.0f} µs at the median")


if __name__ == "__main__":
    main(*sys.argv[1:])
