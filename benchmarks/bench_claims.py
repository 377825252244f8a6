"""How long a million claims take to be listed, and the longest command that the store sees.

    python -m benchmarks.bench_claims [count]

The claims are real: made by the rules, written by a pipeline.  A thousandth of them is written once
more as large as they become: with whom they serve, who has arrived, and arguments of 200 kB.  The
clock of the server runs on while another process has the processor: so that none has, the server is
given a real-time priority, if that is allowed (it is to root).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from statistics import median

import msgspec
import redis
from msgspec.structs import replace

from jobtastic_ext.claims.records import (
    EMPTY,
    FOREVER,
    MOST_MARKS,
    MOST_ORPHANS,
    Begin,
    Claim,
    ClaimCall,
)
from jobtastic_ext.claims.rules import step
from jobtastic_ext.counts.words import WORDS
from jobtastic_ext.keys.call_key import counts_key
from jobtastic_ext.testing.server import EmbeddedServer, server_binary

COUNT = 1_000_000

#: Microseconds that no command of the server is to take, and commands that it remembers.
MOST, REMEMBERED = 5_000, 50_000

#: Bytes of arguments, where a run gets those of its newest caller.
ARGUMENTS = 200_000

APP = """
from celery import Celery
from jobtastic_ext import JobtasticStep

app = Celery("shop", broker="{url}", backend="{url}")
app.conf.jobtastic_key_prefix = "shop"
app.steps["worker"].add(JobtasticStep)


@app.task
def report(month):
    return month


@app.task
def old(month):
    return month
"""

#: What the page for operators asks.
PAGE = """
from jobtastic_ext.runtime import runtime_of
from jobtastic_ext.web.overview import claims_of
from shop import app

runtime = runtime_of(app)
print(len(runtime.desk.savings()), len(claims_of(runtime)[0]))
"""


def claim_of(n: int, now: int, large: bool) -> Claim:
    """Every other one is queued, the others run."""
    name = f"{n:08x}-0000-4000-8000-{os.urandom(6).hex()}"
    claim, _ = step(ClaimCall(task_id=name, gen=f"{n:016x}", hold=60_000), EMPTY, now)
    if n % 2:
        run = f"w1@shop/5b-0123456789ab.{n:012x}"
        begun = Begin(task_id=name, run=run, gen=f"{n:016x}", lease=30_000, herd=60_000)
        claim, _ = step(begun, claim, now)
    if not large or claim.holder is None:
        return claim
    others = tuple(f"{other:08x}{name[8:]}" for other in range(MOST_ORPHANS))
    marks = {f"{n:016x}:{other:08x}{name[8:]}": FOREVER for other in range(MOST_MARKS)}
    holder = replace(claim.holder, orphans=others, arguments="x" * ARGUMENTS)
    return replace(claim, holder=holder, arrivals=marks, tombstones=marks)


def write(client: redis.Redis, count: int, task: str = "report", large: bool = False) -> None:
    now = time.time_ns() // 1_000_000
    at_once = 50 if large else 10_000
    for start in range(0, count, at_once):
        pipeline = client.pipeline(transaction=False)
        for n in range(start, min(start + at_once, count)):
            claim = msgspec.json.encode(claim_of(n, now, large))
            pipeline.set(f"shop:shop.{task}:{n:032x}", claim, px=3_600_000)
        pipeline.execute()


def count_hours(client: redis.Redis) -> None:
    """Write the counts of a week of two tasks, of as many writers as are known at most."""
    pipeline = client.pipeline(transaction=False)
    for ago in range(170):
        for task in ("shop.report", "shop.old"):
            key = counts_key("shop", task, int(time.time()) // 3600 - ago)
            counts = {"": "0" * 20 * 512, **dict.fromkeys(WORDS, 1000)}
            pipeline.hset(key, mapping=counts)
    pipeline.execute()


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else COUNT
    binary = shutil.which("redis-server") or server_binary()
    with EmbeddedServer(binary) as server, tempfile.TemporaryDirectory() as folder:
        Path(folder, "shop.py").write_text(APP.format(url=server.url(0)))
        Path(folder, "jobtastic.yaml").write_text("tasks: {shop.report: {}, shop.old: {}}\n")
        with redis.Redis.from_url(server.url(0)) as client:
            undisturbed(server)
            client.config_set("slowlog-max-len", REMEMBERED)
            began = time.perf_counter()
            write(client, count)
            write(client, count // 100, "old")
            count_hours(client)
            print(f"{count:,} claims written in {time.perf_counter() - began:.1f} s")
            for words in (["claims", "--json"], ["claims"], ["claims", "--overdue"]):
                ask(client, folder, ["-m", "celery", "-A", "shop", "jobtastic", *words])
            forgets = ["forget", "--task", "shop.o*", "--yes"]
            ask(client, folder, ["-m", "celery", "-A", "shop", "jobtastic", *forgets])
            ask(client, folder, ["-c", PAGE])
            client.flushall()
            write(client, count // 1000, large=True)
            print(f"{count // 1000:,} claims of {client.strlen(client.randomkey()):,} bytes")
            ask(client, folder, ["-m", "celery", "-A", "shop", "jobtastic", "claims"])
            ask(client, folder, ["-c", PAGE])


def undisturbed(server: EmbeddedServer) -> None:
    try:
        os.sched_setscheduler(server.pid, os.SCHED_FIFO, os.sched_param(10))
    except PermissionError:
        print("other processes interrupt the server, and count with its commands")


def ask(client: redis.Redis, folder: str, words: list[str]) -> None:
    """Run a command, and print what it took, here and on the server."""
    began, before = time.perf_counter(), os.times().children_user
    remember(client)
    done = subprocess.run([sys.executable, *words], cwd=folder, capture_output=True, check=True)
    took, cpu = time.perf_counter() - began, os.times().children_user - before
    name, lines = " ".join(words[5:]) or "the page for operators", done.stdout.count(b"\n")
    print(f"{name:29} {lines:9,} lines in {took:.1f} s ({cpu:.1f} s of cpu)")
    tell(client)


def remember(client: redis.Redis) -> None:
    client.slowlog_reset()
    client.config_set("slowlog-log-slower-than", 0)


def tell(client: redis.Redis) -> None:
    """Print the longest commands by the server's clock."""
    client.config_set("slowlog-log-slower-than", -1)
    taken: dict[str, list[int]] = defaultdict(list)
    for each in client.slowlog_get(REMEMBERED):
        taken[each["command"].split()[0].decode()].append(each["duration"])
    client.slowlog_reset()
    longest = sorted(taken, key=lambda name: -max(taken[name]))[:3]
    said = [
        f"{name} {max(taken[name]) / 1000:.1f} ms (median {median(taken[name]) / 1000:.2f}, "
        f"{len(taken[name]):,} times)"
        for name in longest
    ]
    over = sum(each > MOST for times in taken.values() for each in times)
    print(f"    above {MOST / 1000:g} ms: {over}; longest: {', '.join(said)}")


if __name__ == "__main__":
    main()
