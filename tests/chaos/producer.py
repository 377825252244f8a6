"""A process that calls some hundred keys, zipf: plain calls, groups, chords, chains and crowds."""

from __future__ import annotations

import json
import os
import random
import sys
import threading
import time
from typing import Any

from celery import chain, chord, group

from jobtastic_ext.runtime import runtime_of

from .app import NAMES, create

KEYS = 200

#: What is called, and how often.  A crowd is a group of so many duplicates.
KINDS = {"plain": 85, "group": 5, "chord": 5, "chain": 5, "crowd": 1}
CROWD = 200


def zipf(rng: random.Random) -> int:
    """A key from 1 to `KEYS`; key n is called about 1/n as often as key 1."""
    return min(KEYS, int(KEYS ** rng.random()))


def seconds_of(key: int) -> float:
    """The run of a key takes always as long, 0.05 to 0.6 s."""
    return 0.05 + (key * 37 % 12) / 20


class Producer(threading.Thread):
    def __init__(self, app: Any, seed: str, rate: float, until: float) -> None:
        super().__init__(daemon=True)
        self.app, self.rate, self.until = app, rate, until
        self.random = random.Random(seed)

    def run(self) -> None:
        while time.time() < self.until:
            time.sleep(self.random.expovariate(self.rate))
            key = zipf(self.random)
            kind = self.random.choices(tuple(KINDS), tuple(KINDS.values()))[0]
            name = self.random.choice(NAMES)
            began = time.time()
            # Early acknowledgement loses the message with its worker, with or without us: a plain
            # call is served by the next identical one, but the parts of a canvas are not.
            name = name if kind == "plain" else "chaos.late"
            try:
                ids, error = getattr(self, kind)(self.app.tasks[name], key), None
            except Exception as problem:  # noqa: BLE001 - it belongs to the history
                ids, error = [], repr(problem)
            self.app.history.add(
                "call",
                at=began,
                done=time.time(),
                key=key,
                task=name,
                kind=kind,
                ids=ids,
                error=error,
            )

    def part(self, task: Any, key: int) -> Any:
        return task.s(key, seconds=seconds_of(key))

    def plain(self, task: Any, key: int) -> list[str]:
        return [task.delay(key, seconds=seconds_of(key)).id]

    def group(self, task: Any, key: int) -> list[str]:
        keys = (key, key, zipf(self.random))
        return [r.id for r in group(self.part(task, k) for k in keys).apply_async().results]

    def crowd(self, task: Any, key: int) -> list[str]:
        return [r.id for r in group(self.part(task, key) for _ in range(CROWD)).apply_async()]

    def chord(self, task: Any, key: int) -> list[str]:
        keys = (key, key, zipf(self.random))
        header = group(self.part(task, k) for k in keys)
        result = chord(header, self.app.tasks["chaos.total"].s()).apply_async()
        return [result.id, *(r.id for r in result.parent.results)]

    def chain(self, task: Any, key: int) -> list[str]:
        result = chain(self.part(task, key), self.app.tasks["chaos.tail"].s()).apply_async()
        return [result.id, result.parent.id]


def main() -> None:
    conf = json.loads(os.environ["JOBTASTIC_TEST_CONF"])
    seed, rate, until = sys.argv[1], float(sys.argv[2]), float(sys.argv[3])
    app = create(conf)
    threads = [Producer(app, f"{seed}-{n}", rate / 4, until) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    runtime = runtime_of(app)
    while runtime is not None and not runtime.tally.flush():
        time.sleep(0.1)  # the store is away just now


if __name__ == "__main__":
    main()
