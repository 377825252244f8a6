"""Tasks that leak and tasks that only look as if they did, for a worker of their own.

Each run is noted where it happens: how many there were in its process, and how resident memory
changed between `task_prerun` and `task_postrun`, which is what a plain threshold would judge.
"""

from __future__ import annotations

import importlib
import json
import os
import random
from collections import Counter
from typing import Any

import redis
from celery import Celery
from celery.signals import task_postrun, task_prerun

from jobtastic_ext import JobtasticStep
from jobtastic_ext.memory.meter import Budget
from jobtastic_ext.signals import memory_leak_detected
from tests import reports

#: Takes some 30 MB.
LARGE_LIBRARY = "mypy.build"

#: MB of the plain threshold that the watch is held against.
PLAIN = 1.0

CLEAN = ("clean", "raises", "frees", "imports", "cache", "fragments")
LEAKS = ("once", "mega", "slow", "tenth", "failing")

PAGE = os.sysconf("SC_PAGE_SIZE")

held: dict[str, list[Any]] = {name: [] for name in (*CLEAN, *LEAKS)}
runs: Counter[str] = Counter()
flagged: dict[str, list[int]] = {name: [] for name in held}


class Broken(Exception):
    """Raised by the task that leaks when it fails."""


def resident() -> float:
    """The resident memory of this process, as the kernel tells it, in MB."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * PAGE / 1e6


def filled(size: int) -> bytearray:
    """So many bytes, each of them written."""
    return bytearray(b"x") * size


def ordinary_work(n: int) -> int:
    rows = [{"id": i, "name": f"row {i} of {n}", "value": i / 7} for i in range(2_000)]
    return sum(len(row["name"]) for row in sorted(rows, key=lambda row: -row["value"]))


def clean(n: int) -> int:
    return ordinary_work(n)


def raises(n: int) -> None:
    """Its frames and its exception hold each other until the garbage collector comes."""
    rows = [{"id": i} for i in range(500)]
    try:
        raise Broken(n)
    except Broken as error:
        rows.append({"error": error})
        raise


def frees(n: int) -> int:
    return len(filled(200_000_000))


def imports(n: int) -> int:
    importlib.import_module(LARGE_LIBRARY)
    return ordinary_work(n)


def cache(n: int) -> int:
    if len(held["cache"]) < 60:
        held["cache"].append(filled(500_000))
    return len(held["cache"])


def fragments(n: int) -> None:
    """Leave holes of many sizes between what lives on until the next run."""
    sizes = random.Random(n)
    blocks = [filled(sizes.randrange(200, 4_000)) for _ in range(5_000)]
    held["fragments"] = blocks[sizes.randrange(20) :: 20]


def once(n: int) -> None:
    """It comes in the middle, when everything else is long warm."""
    if runs["once"] == 40:
        held["once"].append(filled(100_000_000))


def mega(n: int) -> None:
    held["mega"].append(filled(1_000_000))


def slow(n: int) -> None:
    held["slow"].append(filled(50_000))


def tenth(n: int) -> None:
    if runs["tenth"] % 10 == 0:
        held["tenth"].append(filled(1_000_000))


def failing(n: int) -> None:
    if runs["failing"] % 2:
        held["failing"].append(filled(200_000))
        raise Broken(n)


BODIES = (clean, raises, frees, imports, cache, fragments, once, mega, slow, tenth, failing)


def create(conf: dict[str, Any]) -> Celery:
    # A run here takes no time, and on a slow machine a look at this heap more than it may.
    Budget.LEAST = 0.05
    app = Celery("zoo", set_as_current=False)
    app.conf.update(conf)
    app.steps["worker"].add(JobtasticStep)
    for body in BODIES:
        app.task(body, name=f"zoo.{body.__name__}", shared=False, ignore_result=True)
    return app


def connect(app: Celery) -> None:
    """Note, in a worker, what each run grew and what was reported."""
    notes = redis.Redis.from_url(app.conf.notes_url)
    begins: dict[str, float] = {}

    def begin(task_id: str, sender: Any, **_: Any) -> None:
        runs[sender.name.rpartition(".")[2]] += 1
        begins[task_id] = resident()

    def end(task_id: str, sender: Any, **_: Any) -> None:
        name = sender.name.rpartition(".")[2]
        growth = resident() - begins.pop(task_id)
        if growth > PLAIN:
            flagged[name].append(runs[name])
            note(event="flagged", task=name, runs=runs[name], growth=growth)

    def detected(sender: Any, **facts: Any) -> None:
        name = sender.name.rpartition(".")[2]
        shown = {fact: facts[fact] for fact in ("kind", "growth", "per_run")}
        note(event="reported", task=name, at=runs[name], window=facts["runs"], **shown)

    def note(**line: Any) -> None:
        notes.rpush(app.conf.notes_name, json.dumps({**line, "pid": os.getpid()}))

    task_prerun.connect(begin, weak=False)
    task_postrun.connect(end, weak=False)
    memory_leak_detected.connect(detected, weak=False)


#: Imported in a worker, it ends the worker with the process that started it.
GUARD = reports.end_with

if "JOBTASTIC_TEST_CONF" in os.environ:
    app = create(json.loads(os.environ["JOBTASTIC_TEST_CONF"]))
    app.set_current()
    connect(app)
