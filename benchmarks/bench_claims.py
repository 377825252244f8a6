"""How long a million claims take to be listed, and the longest command that the store sees.

    python -m benchmarks.bench_claims [count]

The claims are real: made by the rules, written by a pipeline.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import msgspec
import redis

from jobtastic_ext.claims.records import EMPTY, Begin, ClaimCall
from jobtastic_ext.claims.rules import step
from jobtastic_ext.testing.server import EmbeddedServer

COUNT = 1_000_000

#: Microseconds, from which on a command is noted by the server.
SLOW = 2_000

APP = """
from celery import Celery
from jobtastic_ext import JobtasticStep

app = Celery("shop", broker="{url}", backend="{url}")
app.conf.jobtastic_key_prefix = "shop"
app.steps["worker"].add(JobtasticStep)


@app.task
def report(month):
    return month
"""


def write(client: redis.Redis, count: int) -> None:
    """Write claims: half of them queued, half running, as the rules make them."""
    now = time.time_ns() // 1_000_000
    for start in range(0, count, 10_000):
        pipeline = client.pipeline(transaction=False)
        for n in range(start, min(start + 10_000, count)):
            name = f"{n:08x}-0000-4000-8000-{os.urandom(6).hex()}"
            claim, _ = step(ClaimCall(task_id=name, gen=f"{n:016x}", hold=60_000), EMPTY, now)
            if n % 2:
                run = f"w1@shop/5b-0123456789ab.{n:012x}"
                begun = Begin(task_id=name, run=run, gen=f"{n:016x}", lease=30_000, herd=60_000)
                claim, _ = step(begun, claim, now)
            key = f"shop:shop.report:{n:032x}"
            pipeline.set(key, msgspec.json.encode(claim), px=3_600_000)
        pipeline.execute()


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else COUNT
    with EmbeddedServer() as server, tempfile.TemporaryDirectory() as folder:
        Path(folder, "shop.py").write_text(APP.format(url=server.url(0)))
        Path(folder, "jobtastic.yaml").write_text("tasks: {shop.report: {}}\n")
        with redis.Redis.from_url(server.url(0)) as client:
            began = time.perf_counter()
            write(client, count)
            print(f"{count:,} claims written in {time.perf_counter() - began:.1f} s")
            client.config_set("slowlog-log-slower-than", SLOW)
            client.slowlog_reset()
            for words in (["claims", "--json"], ["claims"], ["claims", "--overdue"]):
                command = [sys.executable, "-m", "celery", "-A", "shop", "jobtastic", *words]
                began, before = time.perf_counter(), os.times().children_user
                done = subprocess.run(command, cwd=folder, capture_output=True, check=True)
                took = time.perf_counter() - began
                lines = done.stdout.count(b"\n")
                cpu = os.times().children_user - before
                print(f"{' '.join(words):18} {lines:9,} lines in {took:.1f} s ({cpu:.1f} s of cpu)")
            longest(client, "of the lists")
            client.slowlog_reset()
            for _ in range(count // 100):  # about as many as a list needs, and as long
                client.eval("local n = 0 for i = 1, 20000 do n = n + i end return n", 0)
                sum(range(20_000))  # as a list keeps its own process busy
            longest(client, "of as many that only add numbers, for comparison")


def longest(client: redis.Redis, what: str) -> None:
    """Print the longest commands by the server's clock, which runs on while others have the cpu."""
    slow = sorted(client.slowlog_get(1000), key=lambda each: -each["duration"])
    names = ", ".join(
        f"{each['command'].split()[0].decode()} {each['duration'] / 1000:.1f}" for each in slow[:3]
    )
    print(f"commands above {SLOW / 1000:g} ms {what}: {len(slow)}; longest, in ms: {names or '-'}")


if __name__ == "__main__":
    main()
