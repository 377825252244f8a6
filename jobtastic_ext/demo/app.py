"""An ordinary Celery project: an app with the one line, and three plain tasks."""

from __future__ import annotations

import os
import re
import sysconfig
import time
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from celery import Celery
from celery.app.task import Task
from redis import Redis

from .. import JobtasticStep

__all__ = ("LEASE", "PACE", "app", "configure", "part", "read", "report", "runs", "summary")

#: Seconds for which a running claim outlives its worker: short, so that nobody waits for the end.
LEASE = 2

#: Seconds for each file that a task reads: it works at a fixed pace, whatever the machine.
PACE = 0.05

DEFINITION = re.compile(rb"^ *(?:async )?(def|class) ", re.MULTILINE)

#: How the processes of one demo find each other.
URL, PREFIX = "JOBTASTIC_DEMO_URL", "JOBTASTIC_DEMO_PREFIX"

app = Celery("library")
app.steps["worker"].add(JobtasticStep)


def configure(url: str, prefix: str) -> None:
    """Point this process, and those it starts, at one Redis, with one prefix for every key."""
    os.environ.update({URL: url, PREFIX: prefix})
    app.conf.update(
        broker_url=url,
        result_backend=url,
        broker_connection_retry_on_startup=True,
        broker_transport_options={"global_keyprefix": f"{prefix}:"},
        result_backend_transport_options={"global_keyprefix": f"{prefix}:"},
        task_default_queue=prefix,
        # The control channel is the one thing that a prefix does not keep apart.
        worker_enable_remote_control=False,
        worker_hijack_root_logger=False,
        jobtastic_policy=str(Path(__file__).with_name("jobtastic.yaml")),
        jobtastic_key_prefix=prefix,
        jobtastic_lease=LEASE,
    )


if URL in os.environ:
    configure(os.environ[URL], os.environ[PREFIX])


@app.task(bind=True, name="library.report")
def report(self: Task, first: int, count: int, asked_by: str = "") -> dict[str, int]:
    """Read `count` files of Python's standard library, from number `first` on."""
    note_run(f"report {first}", self.request.id)
    found: Counter[str] = Counter()
    for done, counted in enumerate(read(first, count, PACE), 1):
        found += counted
        self.update_progress(done, count, update_frequency=10)
    return dict(found)


@app.task(bind=True, name="library.part")
def part(self: Task, first: int, count: int) -> dict[str, int]:
    """Read a few files, without a word until they are read."""
    note_run(f"part {first}", self.request.id)
    return dict(sum(read(first, count, PACE), Counter()))


@app.task(bind=True, name="library.summary")
def summary(self: Task, parts: list[dict[str, int]]) -> list[int]:
    """Return the functions counted in each part."""
    note_run("summary", self.request.id)
    return [each["functions"] for each in parts]


def read(first: int, count: int, pace: float = 0.0) -> Iterator[Counter[str]]:
    """Yield what is in each file, round and round the shelf, one each `pace` seconds."""
    due = time.monotonic()
    for number in range(first, first + count):
        path = shelf()[number % len(shelf())]
        source = path.read_bytes()
        kinds = Counter(DEFINITION.findall(source))
        due += pace
        time.sleep(max(due - time.monotonic(), 0))
        yield Counter(lines=source.count(b"\n"), functions=kinds[b"def"], classes=kinds[b"class"])


@cache
def shelf() -> tuple[Path, ...]:
    """Return the modules of the standard library, in one order on every run."""
    return tuple(sorted(Path(sysconfig.get_path("stdlib")).glob("[a-z]*.py")))


def note_run(what: str, task_id: str) -> None:
    """Leave a mark in Redis: this is the only thing by which the demo counts runs."""
    with Redis.from_url(os.environ[URL]) as redis:
        redis.rpush(f"{os.environ[PREFIX]}:runs:{what}", task_id)


def runs(what: str) -> int:
    """Return how often the body of a task was entered."""
    with Redis.from_url(os.environ[URL]) as redis:
        return int(redis.llen(f"{os.environ[PREFIX]}:runs:{what}"))
