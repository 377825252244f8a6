"""Which leaks are found, after how many runs, beside a plain threshold of 1 MB.

    python -m benchmarks.bench_leaks [repetitions] [runs of each task]

A real prefork worker of two runs every task of `tests/zoo.py`, in random order, so that leaks and
clean tasks share their processes.
"""

from __future__ import annotations

import json
import random
import shutil
import sys
import time
import uuid
from typing import Any

import redis

from jobtastic_ext.runtime import close_runtime
from jobtastic_ext.testing.server import EmbeddedServer, server_binary
from tests import zoo
from tests.workers import Worker

#: Of both rules: above what the large library takes, below what leaks in one run.
THRESHOLD = 50


def settings(server: EmbeddedServer) -> dict[str, Any]:
    name = uuid.uuid4().hex[:12]
    return {
        "broker_url": server.url(0),
        "result_backend": server.url(1),
        "task_default_queue": f"zoo-{name}",
        "worker_send_task_events": False,
        "broker_connection_retry_on_startup": True,
        "jobtastic_policy": {
            "tasks": {"zoo.*": {"memleak_threshold": THRESHOLD, "herd_avoidance_timeout": 0}}
        },
        "notes_url": server.url(3),
        "notes_name": f"notes-{name}",
    }


def orders(count: int) -> dict[str, list[str]]:
    """Every task so many times."""
    names = [body.__name__ for body in zoo.BODIES for _ in range(count)]
    mixed = random.Random(count).sample(names, len(names))
    return {"one task after the other": names, "in random order": mixed}


def visit(server: EmbeddedServer, names: list[str], concurrency: int = 2) -> list[Any]:
    """Run these tasks in one worker, and return what was noted."""
    conf = settings(server)
    app = zoo.create(conf)
    with Worker(conf, concurrency=concurrency, app="tests.zoo") as worker:
        for n, name in enumerate(names):
            app.tasks[f"zoo.{name}"].delay(n)
        wait_for(app, len(names), worker)
    close_runtime(app)
    app.close()
    with redis.Redis.from_url(conf["notes_url"]) as notes:
        return [json.loads(line) for line in notes.lrange(conf["notes_name"], 0, -1)]


def wait_for(app: Any, count: int, worker: Worker, seconds: float = 600) -> dict[str, Any]:
    """Wait until so many runs are over, and return what the worker tells of them."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        # By its name: others on the same server would answer, too.
        inspect = app.control.inspect([worker.name], timeout=2)
        for told in (inspect._request("jobtastic_memory") or {}).values():
            if sum(task["runs"] for task in told.values()) >= count:
                return dict(told)
        time.sleep(0.3)
    raise AssertionError(f"the runs did not end in {seconds} s:\n{worker.output()[-3000:]}")


def table(notes: list[Any], count: int) -> tuple[str, bool]:
    """Return the table, and whether all leaks were found and nothing else."""
    lines = [f"{'task':<11} {'found after':>12} {'MB a run':>9}   plain threshold of 1 MB"]
    fine = True
    for name in (*zoo.CLEAN, *zoo.LEAKS):
        mine = [note for note in notes if note["task"] == name]
        reports = [note for note in mine if note["event"] == "reported"]
        flags = [note for note in mine if note["event"] == "flagged"]
        fine = fine and bool(reports) == (name in zoo.LEAKS)
        found = f"{min(note['at'] for note in reports)} runs" if reports else "-"
        rate = next((f"{note['per_run']:.3f}" for note in reports if note["per_run"]), "")
        plain = f"{len(flags)} of {count} runs" if flags else "-"
        lines.append(f"{name:<11} {found:>12} {rate:>9}   {plain}")
    return "\n".join(lines), fine


def main(repetitions: int = 1, count: int = 300) -> bool:
    """Print a table for each repetition, in both orders; say whether every verdict was right."""
    fine = True
    with EmbeddedServer(shutil.which("redis-server") or server_binary()) as server:
        for repetition in range(repetitions):
            for order, names in orders(count).items():
                began = time.monotonic()
                shown, right = table(visit(server, names), count)
                fine = fine and right
                print(f"\n{count} runs of each, {order}, repetition {repetition + 1}")
                print(f"{shown}\nverdicts: {'all right' if right else 'WRONG'}", end=", ")
                print(f"{time.monotonic() - began:.0f} s", flush=True)
    return fine


if __name__ == "__main__":
    sys.exit(not main(*map(int, sys.argv[1:])))
