"""Who does the harm: seeded, so that a run can be repeated as far as the machine allows."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
import time
from collections.abc import Collection
from typing import Any

import psutil

from tests.workers import Worker

from .app import History
from .stores import Victim

#: Pools of the workers, each with its number of slots.
POOLS = (("prefork", 2), ("prefork", 2), ("threads", 4))


class Nemesis(threading.Thread):
    """Harms workers and store until it is told to stop; then `heal` undoes what it can."""

    def __init__(
        self,
        conf: dict[str, Any],
        victim: Victim,
        history: History,
        seed: str,
        lease: float,
        spares: Collection[str] = (),
    ) -> None:
        super().__init__(daemon=True)
        #: Deeds that it leaves undone.
        self.spares = spares
        self.conf, self.victim, self.history, self.lease = conf, victim, history, lease
        self.random = random.Random(seed)
        self.stopped = threading.Event()
        self.workers: list[Worker] = []
        #: All that there were: their logs tell of those who were not served.
        self.all: list[Worker] = []
        self.app: Any = None
        self.error: BaseException | None = None
        #: No harm is done to the store before that moment.
        self.spared = 0.0

    def start_workers(self) -> None:
        self.workers = [self.worker(pool, slots) for pool, slots in POOLS]
        for worker in self.workers:
            worker.wait_for(" ready.")

    def worker(self, pool: str, slots: int) -> Worker:
        worker = Worker(self.conf, pool=pool, concurrency=slots, app="tests.chaos.app")
        self.all.append(worker)
        return worker

    def said(self, text: str) -> list[str]:
        """Lines with a text in the logs of all workers."""
        return sorted(
            f"worker {number}: {line}"
            for number, worker in enumerate(self.all)
            for line in worker.output().splitlines()
            if text in line
        )

    def run(self) -> None:
        try:
            while not self.stopped.wait(self.random.uniform(0.5, 2.0)):
                self.harm()
        except BaseException as error:
            self.error = error
            raise

    def harm(self) -> None:
        # The store is left alone for most of the time: what happens while it is away proves little.
        injuries = self.victim.injuries() if time.time() >= self.spared else {}
        deeds = {
            "kill a child": self.kill_child,
            "kill a worker": self.kill_worker,
            "pause a worker": self.pause_worker,
            "revoke": self.revoke,
            **dict.fromkeys(injuries),
        }
        name = self.random.choice([deed for deed in deeds if deed not in self.spares])
        began = time.time()
        pids: list[int] = []
        if name in injuries:
            what = injuries[name](self.random.uniform(0.3, 1.5))
            self.spared = time.time() + 2 + 4 * min(5.0, time.time() - began)
        else:
            what, pids = deeds[name]()
        self.history.add("harm", name=name, what=what, began=began, ended=time.time(), pids=pids)

    def kill_child(self) -> tuple[str, list[int]]:
        worker = self.workers[self.random.randrange(2)]  # those with children
        children = worker.children()
        if not children:
            return "nothing", []
        child = self.random.choice(children)
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        return "killed", [child]

    def kill_worker(self) -> tuple[str, list[int]]:
        number = self.random.randrange(len(self.workers))
        pids = self.pids_of(self.workers[number])
        self.workers[number].kill()
        self.workers[number] = self.worker(*POOLS[number])
        self.workers[number].wait_for(" ready.")
        return "killed", pids

    def pause_worker(self) -> tuple[str, list[int]]:
        worker = self.random.choice(self.workers)
        pids = self.pids_of(worker)
        os.killpg(worker.process.pid, signal.SIGSTOP)
        self.stopped.wait(self.lease * 1.5)
        os.killpg(worker.process.pid, signal.SIGCONT)
        return "paused", pids

    def pids_of(self, worker: Worker) -> list[int]:
        main = psutil.Process(worker.process.pid)
        return [main.pid, *(child.pid for child in main.children(recursive=True))]

    def revoke(self) -> tuple[str, list[int]]:
        calls = [line for line in self.history.read()[-200:] if line["event"] == "call"]
        ids = [line["ids"][0] for line in calls if line["kind"] == "plain" and line["ids"]]
        if ids:
            self.app.control.revoke(self.random.choice(ids))
        return "revoked", []

    def heal(self) -> None:
        """Stop, and see that every worker is there."""
        self.stopped.set()
        self.join(120)
        assert not self.is_alive(), "the nemesis did not end"
        if self.error is not None:
            raise self.error

    def close(self) -> None:
        for worker in self.workers:
            worker.kill()
