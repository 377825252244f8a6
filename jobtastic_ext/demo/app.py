"""An ordinary Celery project: an app with the one line, and three plain tasks."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from celery import Celery
from celery.app.task import Task
from redis import Redis

from jobtastic_ext import JobtasticStep

from . import library

__all__ = ("LEASE", "app", "configure", "part", "report", "runs", "summary")

#: Seconds for which a running claim outlives its worker: short, so that nobody waits for the end.
LEASE = 2

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
def report(self: Task, first: int, count: int, asked_by: str = "") -> dict[str, Any]:
    """Read `count` files of the standard library, from number `first` on."""
    note_run(f"report {first}", self.request.id)
    findings = library.Findings()
    for i, path in enumerate(library.volumes(first, count)):
        findings.read(path)
        self.update_progress(i + 1, count, update_frequency=10)
    return findings.summary()


@app.task(bind=True, name="library.part")
def part(self: Task, first: int, count: int) -> dict[str, Any]:
    """Read a few files, without a word until they are read."""
    note_run(f"part {first}", self.request.id)
    findings = library.Findings()
    for path in library.volumes(first, count):
        findings.read(path)
    return findings.summary()


@app.task(bind=True, name="library.summary")
def summary(self: Task, parts: list[dict[str, Any]]) -> list[int]:
    """Return the functions counted in each part."""
    note_run("summary", self.request.id)
    return [each["functions"] for each in parts]


def note_run(what: str, task_id: str) -> None:
    """Leave a mark in Redis: this is the only thing by which the demo counts runs."""
    with Redis.from_url(os.environ[URL]) as redis:
        redis.rpush(f"{os.environ[PREFIX]}:runs:{what}", task_id)


def runs(what: str) -> int:
    """Return how often the body of a task was entered."""
    with Redis.from_url(os.environ[URL]) as redis:
        return int(redis.llen(f"{os.environ[PREFIX]}:runs:{what}"))
