"""The four acts, and what must hold in each."""

from __future__ import annotations

import gc
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from traceback import clear_frames
from typing import Any

from celery import chord
from celery.result import AsyncResult

from ..testing.worker import Worker
from .app import LEASE, PACE, part, read, report, runs, summary
from .callers import Call, Callers
from .screen import Check, Screen

__all__ = ("Story",)

#: Producer processes, and threads in each.
PROCESSES, SEATS = 8, 5

#: Files in the two reports and in a part: 8 s, 5 s and 1 s.
LONG, SHORT, BRIEF = round(8 / PACE), round(5 / PACE), round(1 / PACE)

#: Percent of the second report at which its worker is killed.
FATAL = 30

#: Seconds after which the whole story counts as stuck.
LIMIT = 120

HERD, CACHE = "forty at once", "asked again"
CHORD, KILL = "chord", "worker killed"


class Story:
    """Told once; `checks` fills up as it goes."""

    def __init__(self, screen: Screen, log: Path) -> None:
        self.screen, self.log = screen, log
        self.checks: list[Check] = []
        self._end = time.monotonic() + LIMIT
        self._answer: Any = None
        self._took = 0.0

    def tell(self) -> None:
        """Tell all four acts; raise `TimeoutError` or `RuntimeError` if one gets stuck."""
        with Callers(PROCESSES, SEATS) as callers, Worker(self.log) as worker:
            try:
                callers.wait_until_seated(self._left())
                worker.wait_until_ready(self._left())
                self.forty_at_once(callers)
                self.asked_again()
                self.chord_of_duplicates()
                self.worker_killed(callers, worker)
            except BaseException as error:
                clear_frames(error.__traceback__)
                raise
            finally:
                # Results unsubscribe as they go (a group's are a circle): while the server answers.
                gc.collect()

    def forty_at_once(self, callers: Callers) -> None:
        screen = self.screen
        self.act(1, f"{callers.count} callers ask for one report in the same moment")
        began = time.monotonic()
        calls = callers.call(0, LONG, self._left())
        self.show_calls(calls)
        self.follow(calls[0].task_id, f"reading {LONG} files")
        answers = callers.results(self._left())
        self._took, self._answer = time.monotonic() - began, answers[0]
        if isinstance(answers[0], dict):
            screen.say(", ".join(f"{n:,} {what}" for what, n in answers[0].items()))
        self.check(HERD, "task ids", 1, len(ids(calls)))
        self.check(HERD, "runs", 1, runs("report 0"))
        self.check(HERD, "callers served", callers.count, alike(answers, answers[0]))

    def asked_again(self) -> None:
        self.act(2, "The same report once more, and once more")
        answers, times = [], []
        for asker in ("one who never asked before", "the same one"):
            began = time.perf_counter()
            answer = report.delay(count=LONG, first=0, asked_by=asker).get(self._left())
            times.append(time.perf_counter() - began)
            answers.append(answer)
        first, again = times[0] * 1000, times[1] * 1000
        self.screen.say(f"{self._took:.2f} s at first; now {first:.1f} ms, then {again:.1f} ms")
        self.check(CACHE, "runs", 1, runs("report 0"))
        self.check(CACHE, "answers alike", 2, alike(answers, self._answer))
        # The better of two: a busy machine may keep one waiting.
        best = min(times)
        seen = f"{self._took:.1f} s, {best * 1000:.1f} ms"
        self.checks.append(Check(CACHE, "time", "a 20th or less", seen, best < self._took / 20))

    def chord_of_duplicates(self) -> None:
        self.act(3, "A chord of seven headers, six of them identical")
        began = time.monotonic()
        header = [part.s(0, BRIEF)] * 6 + [part.s(BRIEF, BRIEF)]
        waiting = chord(header)(summary.s())
        try:
            expected = [functions(0, BRIEF)] * 6 + [functions(BRIEF, BRIEF)]
            found = waiting.get(self._left())
        finally:
            waiting.forget()  # else the backend holds what Ctrl-C left unfinished, to the very end
        self.screen.say(f"complete after {time.monotonic() - began:.1f} s")
        self.check(CHORD, "functions", tally(expected), tally(found))
        headers = runs("part 0") + runs(f"part {BRIEF}")
        self.check(CHORD, "header runs", 2, headers)
        self.check(CHORD, "body runs", 1, runs("summary"))

    def worker_killed(self, callers: Callers, worker: Worker) -> None:
        screen = self.screen
        self.act(4, f"{callers.count} callers share a run, and its worker is killed")
        calls = callers.call(LONG, SHORT, self._left())
        self.show_calls(calls)
        task_id = calls[0].task_id
        self.follow(task_id, f"reading {SHORT} files", until=FATAL)
        worker.kill()
        died = time.monotonic()
        screen.say(f"SIGKILL to worker {worker.pid} and its children; a new worker is started")
        with Worker(self.log) as successor:
            successor.wait_until_ready(self._left())
            # Before the lease is over, a further call would join the dead run like the others.
            time.sleep(max(died + LEASE + 0.5 - time.monotonic(), 0))
            result = report.delay(LONG, SHORT, asked_by="one more")
            screen.say(f"one more asks, and gets the id {result.id}")
            self.follow(task_id, "reading them again")
            answers = [*callers.results(self._left()), result.get(self._left())]
        self.check(KILL, "task ids", 1, len(ids(calls) | {result.id}))
        self.check(KILL, "runs (one killed)", 2, runs(f"report {LONG}"))
        self.check(KILL, "callers served", callers.count + 1, alike(answers, answers[-1]))

    def follow(self, task_id: str, name: str, until: float = 100) -> None:
        """Show the progress of a task until it ends, or has come so far."""
        result = AsyncResult(task_id, app=report.app)
        with self.screen.bar(name) as bar:
            while self._left():
                meta = result.backend.get_task_meta(task_id, cache=False)
                if meta["status"] in ("SUCCESS", "FAILURE"):
                    bar(100, 0)
                    return
                if meta["status"] == "PROGRESS":
                    progress = meta["result"]
                    bar(progress["progress_percent"], progress["time_remaining"])
                    if progress["progress_percent"] >= until:
                        return
                time.sleep(0.1)

    def show_calls(self, calls: Sequence[Call]) -> None:
        slowest = max(call.seconds for call in calls) * 1000
        self.screen.say(f"{len(calls)} calls, the slowest took {slowest:.0f} ms")
        self.screen.say(f"each got the id {name(ids(calls))}")

    def act(self, number: int, text: str) -> None:
        self.screen.title(f"\n{number}. {text}", "bold cyan")

    def check(self, act: str, what: str, expected: Any, seen: Any) -> None:
        self.checks.append(Check(act, what, str(expected), str(seen), expected == seen))

    def _left(self) -> float:
        """Return the seconds that are left; raise `TimeoutError` when there are none."""
        left = self._end - time.monotonic()
        if left <= 0:
            raise TimeoutError(f"not done within {LIMIT} s")
        return left


def ids(calls: Sequence[Call]) -> set[str]:
    return {call.task_id for call in calls}


def name(task_ids: set[str]) -> str:
    """Return the one id; if there are more, say how many."""
    return min(task_ids) if len(task_ids) == 1 else f"of one of {len(task_ids)} tasks"


def tally(numbers: Sequence[int]) -> str:
    """Return ``6 x 990, 1 x 524`` for six of one and one of another."""
    return ", ".join(f"{count} x {number}" for number, count in Counter(numbers).items())


def alike(answers: Sequence[Any], one: Any) -> int:
    """Return how many answers are reports, and equal to `one`."""
    return sum(isinstance(answer, dict) and answer == one for answer in answers)


def functions(first: int, count: int) -> int:
    return sum(each["functions"] for each in read(first, count))
