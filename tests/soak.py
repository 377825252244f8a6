"""``python -m tests.soak --seconds 600``: calls at full rate, and what grows meanwhile.

A prefork worker of two, and this process as the producer: unique calls, repeated calls that join or
are cached, failures, retries and pinned calls.  The first half is for warming up (bare Celery's
children, too, take some 80 MB more until the garbage of failed tasks is collected as fast as it is
made).  From then on resident memory may grow by 2 %, file descriptors not at all (but for the odd
connection); at the end no key may be left that a policy does not explain.  Exit code 0 only if that
held.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import sys
import time
from contextlib import ExitStack
from typing import Any

import msgspec
import psutil
import redis

from jobtastic_ext.claims.records import LINGER, Claim
from jobtastic_ext.runtime import close_runtime
from jobtastic_ext.testing.server import EmbeddedServer
from tests.reports import create
from tests.workers import Worker

POLICY = {
    "defaults": {"herd_avoidance_timeout": 2},
    "tasks": {
        "reports.work": {"significant_kwargs": ["x"]},
        "reports.cached": {"significant_kwargs": ["x"], "cache_duration": "3s"},
        "reports.fails": {"significant_kwargs": ["x"]},
        "reports.flaky": {"significant_kwargs": ["x"]},
    },
}

#: Growth of resident memory that is allowed in the second half.
GROWTH = 0.02
#: A key lives no longer than its policy says: herd, lease and cache, and some slack; in seconds.
KEY_LIFE = 20

#: Each of the tasks has one history of what its runs took, and no more.
TASKS = 3


class Sample:
    def __init__(self, worker: Worker, store: redis.Redis, producer: Producer) -> None:
        main = psutil.Process(worker.process.pid)
        self.at, self.calls, self.pinned = time.monotonic(), producer.calls, producer.pinned
        self.memory = {"producer": psutil.Process().memory_info().rss, "worker": rss(main)}
        self.files = {"producer": psutil.Process().num_fds(), "worker": main.num_fds()}
        for number, child in enumerate(main.children()):
            self.memory[f"child {number}"] = rss(child)
            self.files[f"child {number}"] = child.num_fds()
        self.keys = int(store.dbsize())


def rss(process: psutil.Process) -> int:
    return int(process.memory_info().rss)


class Producer:
    """Calls without pause, but never more than the worker can do."""

    def __init__(self, conf: dict[str, Any]) -> None:
        self.app = create(conf)
        self.random = random.Random(1)
        self.calls = self.pinned = 0

    def burst(self, size: int = 200) -> None:
        """So many calls, and then a wait for the last of them."""
        last = None
        for _ in range(size):
            self.calls += 1
            kind = self.random.random()
            if kind < 0.5:
                last = self.task("cached").delay(self.random.randrange(100), delay=0)
            elif kind < 0.9:
                last = self.task("work").delay(self.calls // 4, delay=0)
            elif kind < 0.94:
                self.task("fails").delay(self.calls, delay=0)
            elif kind < 0.96:
                self.task("flaky").delay(self.calls, failures=1, delay=0)
            else:
                self.pinned += 1
                self.task("work").apply_async((self.calls // 4,), {"delay": 0}, task_id=self.name())
        if last is not None:
            last.get(timeout=60)

    def name(self) -> str:
        return f"pinned-{self.calls}"

    def task(self, name: str) -> Any:
        return self.app.tasks[f"reports.{name}"]


def soak(seconds: float, every: float) -> bool:
    with EmbeddedServer() as broker, EmbeddedServer() as claims:
        conf = {
            "broker_url": broker.url(0),
            "result_backend": broker.url(1),
            "result_expires": 20,
            "worker_send_task_events": False,
            "broker_connection_retry_on_startup": True,
            "jobtastic_policy": POLICY,
            "jobtastic_store": claims.url(0),
            "jobtastic_lease": 2,
            "notes_url": broker.url(3),
            "notes_name": "notes",
        }
        with ExitStack() as stack:
            # Its INFO lines would fill the disk; that it is ready shows in the first burst.
            worker = Worker(conf, concurrency=2, arguments=("-l", "WARNING"))
            stack.callback(worker.kill)
            producer = Producer(conf)
            client = redis.Redis(port=claims.port)
            samples: list[Sample] = []
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                producer.burst()
                broker_notes = producer.app.notes
                broker_notes.client.delete("notes")  # what the tasks note is not what is measured
                if not samples or time.monotonic() - samples[-1].at >= every:
                    samples.append(Sample(worker, client, producer))
            held = judge(samples, client)
            client.close()
            close_runtime(producer.app)
        return held


def judge(samples: list[Sample], client: redis.Redis) -> bool:
    warm = samples[len(samples) // 2 :]
    third = max(1, len(warm) // 3)
    first, last = warm[:third], warm[-third:]
    rate = (samples[-1].calls - samples[0].calls) / (samples[-1].at - samples[0].at)
    print(f"{samples[-1].calls:,} calls, {rate:,.0f} a second, {len(samples)} samples")
    held = True
    for name in samples[-1].memory:
        before = statistics.median(s.memory.get(name, 0) for s in first)
        after = statistics.median(s.memory.get(name, 0) for s in last)
        grown = after / before - 1 if before else 0.0
        files = [s.files.get(name, 0) for s in warm]
        flat = statistics.median(files[-third:]) <= statistics.median(files[:third]) + 1
        held = held and grown <= GROWTH and flat
        print(
            f"  {name:9} {before / 1e6:7.1f} MB -> {after / 1e6:7.1f} MB ({grown:+.2%}), "
            f"descriptors {files[0]} -> {files[-1]} (most {max(files)})"
        )
    time.sleep(KEY_LIFE)
    keys = list(client.scan_iter("*", count=1000))
    histories = [key for key in keys if b":%history:" in key]  # what runs have taught
    counts = [key for key in keys if b":%counts:" in key]  # of each task, in each hour
    raws = [client.get(key) for key in keys if key not in histories and key not in counts]
    claims = [msgspec.json.decode(raw, type=Claim) for raw in raws if raw is not None]
    # The end of a run that pinned calls followed is remembered for late messages, for `LINGER`.
    lingering = [
        c for c in claims if c.value is not None and c.value.kept - c.value.ended >= LINGER
    ]
    print(
        f"  keys      most {max(s.keys for s in warm):,}; {KEY_LIFE} s later {len(claims):,}, of "
        f"which {len(lingering):,} for pinned calls ({samples[-1].pinned:,} were made), "
        f"and {len(histories)} histories of tasks; {len(counts)} of counts"
    )
    hours = 2 + (samples[-1].at - samples[0].at) // 3600
    held = held and len(histories) <= TASKS and len(counts) <= hours * len(POLICY["tasks"])
    return held and len(lingering) == len(claims) and len(lingering) <= samples[-1].pinned


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--every", type=float, default=5, help="seconds between samples")
    options = parser.parse_args()
    held = soak(options.seconds, options.every)
    print("held" if held else "FAILED")
    return 0 if held else 1


if __name__ == "__main__":
    os.environ.pop("JOBTASTIC_TEST_CONF", None)
    sys.exit(main())
