"""Many who ask at the same moment: several processes, each with several threads."""

from __future__ import annotations

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from multiprocessing.synchronize import Barrier
from queue import SimpleQueue
from threading import Thread
from typing import Any, NamedTuple

from .app import report

__all__ = ("Call", "Callers")

#: Longest that a caller waits for the others, or for its result, in seconds.
PATIENCE = 90


class Call(NamedTuple):
    """What `delay()` gave a caller: an id (empty if it failed), and the seconds it took."""

    task_id: str
    seconds: float


class Callers(ExitStack):
    """`processes` times `seats` callers, who make the same call when one barrier falls."""

    def __init__(self, processes: int, seats: int) -> None:
        super().__init__()
        # Not fork: a producer is a process of its own, with nothing inherited.
        spawning = get_context("spawn")
        # Held here too: its semaphores go when the one that made them lets go.
        self._barrier = spawning.Barrier(processes * seats)
        self.count = processes * seats
        self._lines: list[Connection] = []
        for _ in range(processes):
            ours, theirs = spawning.Pipe()
            process = spawning.Process(target=sit, args=(theirs, self._barrier, seats), daemon=True)
            process.start()
            theirs.close()
            self._lines.append(ours)
            self.callback(ours.close)
            self.callback(end, process)

    def wait_until_seated(self, timeout: float) -> None:
        """Return when every process is ready to call."""
        self._listen(timeout)

    def call(self, first: int, count: int, timeout: float) -> list[Call]:
        """Let everybody ask for the same report at once; return what each of them got."""
        for line in self._lines:
            line.send((first, count))
        return [Call(*call) for calls in self._listen(timeout) for call in calls]

    def results(self, timeout: float) -> list[Any]:
        """Return what everybody got in the end: a report, or the text of an error."""
        return [result for results in self._listen(timeout) for result in results]

    def _listen(self, timeout: float) -> list[Any]:
        deadline = time.monotonic() + timeout
        heard = []
        for line in self._lines:
            if not line.poll(max(deadline - time.monotonic(), 0)):
                raise TimeoutError(f"a producer process has not answered within {timeout:.0f} s")
            try:
                heard.append(line.recv())
            except EOFError:
                raise RuntimeError("a producer process ended by itself") from None
        return heard


def end(process: BaseProcess) -> None:
    process.kill()
    process.join()


def sit(line: Connection, barrier: Barrier, seats: int) -> None:
    """Be one producer process: for each request, call from every seat and wait for the results."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the one who started us
    Thread(target=leave_with_the_demo, daemon=True).start()
    line.send("seated")
    while True:
        try:
            first, count = line.recv()
        except EOFError:
            return
        called: SimpleQueue[Call] = SimpleQueue()

        def ask(seat: int, first: int, count: int, called: SimpleQueue[Call]) -> Any:
            barrier.wait(PATIENCE)
            began, task_id = time.perf_counter(), ""
            try:
                result = report.delay(first, count, asked_by=f"{os.getpid()}, seat {seat}")
                task_id = result.id
            finally:
                called.put(Call(task_id, time.perf_counter() - began))
            return result.get(timeout=PATIENCE)

        with ThreadPoolExecutor(seats) as threads:
            asked = [threads.submit(ask, seat, first, count, called) for seat in range(seats)]
            line.send([called.get(timeout=PATIENCE) for _ in asked])
            line.send(
                [repr(each.exception()) if each.exception() else each.result() for each in asked]
            )


def leave_with_the_demo() -> None:
    demo = parent_process()
    if demo is not None:
        demo.join()
        os._exit(1)
