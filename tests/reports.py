"""The app that the tests call and their workers run: ordinary tasks that note what they do.

`create(conf)` makes the app in a producer; a worker process imports the module with the same
settings in JOBTASTIC_TEST_CONF, and finds it as `app`.
"""

from __future__ import annotations

import functools
import json
import os
import threading
import time
from typing import Any

import redis
from celery import Celery, Task, shared_task
from celery.exceptions import Ignore, Reject

from jobtastic_ext import JobtasticStep
from tests.workers import end_with


class Notes:
    """A list in Redis to which every run, in whatever process, adds a line of its own."""

    def __init__(self, url: str, name: str) -> None:
        self.client = redis.Redis.from_url(url)
        self.name = name

    def add(self, **line: Any) -> int:
        noted = {**line, "pid": os.getpid(), "at": time.time()}
        return int(self.client.rpush(self.name, json.dumps(noted)))

    def read(self, task: str | None = None, event: str = "run") -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in self.client.lrange(self.name, 0, -1)]
        return [x for x in lines if x["event"] == event and task in (None, x["task"])]

    def open(self, gate: str) -> None:
        """Let those go on who wait at a gate, and whoever comes to it."""
        self.client.set(f"{self.name}-{gate}", 1, ex=600)

    def wait_at(self, gate: str) -> None:
        deadline = time.monotonic() + 120
        while not self.is_open(gate) and time.monotonic() < deadline:
            time.sleep(0.02)

    def stay(self, delay: float, gate: str | None) -> None:
        """Do what takes long: for some seconds, or until a gate is open."""
        if gate:
            self.wait_at(gate)
        else:
            time.sleep(delay)

    def is_open(self, gate: str) -> bool:
        return bool(self.client.exists(f"{self.name}-{gate}"))

    def close(self) -> None:
        self.client.delete(self.name)
        self.client.close()


class OwnBase(Task):
    """A base class such as many projects have, with a `__call__` of its own."""

    abstract = True

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.run(*args, **kwargs)


class Flaky(Exception):
    """Raised by tasks that fail on purpose."""


class Grid:
    """A value such as NumPy's: it cannot be told whether two are equal."""

    def __init__(self, cells: int) -> None:
        self.cells = cells

    def __eq__(self, other: object) -> Any:
        return self

    def __bool__(self) -> bool:
        raise ValueError("the truth value of an array is ambiguous")

    __hash__ = None  # type: ignore[assignment]


class Early(Task):
    """Fails before its body is reached."""

    abstract = True

    def before_start(self, task_id: str, args: Any, kwargs: Any) -> None:
        raise Flaky("before the start")


@shared_task(name="reports.shared", bind=True)
def shared(self, x: Any, delay: float = 0.3, gate: str | None = None) -> Any:
    self.app.notes.add(event="run", task="shared", id=self.request.id, x=x)
    self.app.notes.stay(delay, gate)
    return {"x": x}


def create(conf: dict[str, Any]) -> Celery:
    app = Celery("reports", set_as_current=False)
    app.conf.update(conf)
    app.notes = Notes(conf["notes_url"], conf["notes_name"])
    if not conf.get("without_plugin"):
        app.steps["worker"].add(JobtasticStep)

    # Not shared: Celery would register them with every other app of the process, too.
    declare = functools.partial(app.task, shared=False)

    def note(task: Task, x: Any, event: str = "run") -> int:
        name = task.name.rpartition(".")[2]
        return app.notes.add(
            event=event, task=name, id=task.request.id, x=x, retries=task.request.retries
        )

    @declare(name="reports.work", bind=True)
    def work(self, x, y=1, *, delay=0.3, gate=None, note_text=None):
        note(self, x)
        app.notes.stay(delay, gate)
        return {"x": x, "y": y}

    @declare(name="reports.cached", bind=True)
    def cached(self, x, delay=0.3, gate=None):
        note(self, x)
        app.notes.stay(delay, gate)
        return {"x": x, "at": time.time()}

    @declare(name="reports.brief", bind=True)
    def brief(self, x, delay=0.1, gate=None):
        note(self, x)
        app.notes.stay(delay, gate)
        return {"x": x, "at": time.time()}

    @declare(name="reports.plain", bind=True)
    def plain(self, x, delay=0.0, gate=None):
        note(self, x)
        app.notes.stay(delay, gate)
        return x

    def tells(self, x, text="", delay=0.0, gate=None):
        note(self, x)
        app.notes.stay(delay, gate)
        return text

    for name in ("reports.noted", "reports.buffered"):
        declare(tells, name=name, bind=True)

    @declare(name="reports.unbound")
    def unbound(x, delay=0.3, gate=None):
        note(unbound, x)
        app.notes.stay(delay, gate)
        return x

    @declare(name="reports.ignored", bind=True)
    def ignored(self, x):
        note(self, x)
        raise Ignore

    @declare(name="reports.replaced", bind=True)
    def replaced(self, x):
        note(self, x)
        raise self.replace(app.tasks["reports.plain"].si(x))

    @declare(name="reports.based", bind=True, base=OwnBase)
    def based(self, x, delay=0.3, gate=None):
        note(self, x)
        app.notes.stay(delay, gate)
        return x

    @declare(name="reports.add", bind=True)
    def add(self, a, b=0, delay=0.2, gate=None):
        note(self, [a, b])
        app.notes.stay(delay, gate)
        return a + b

    @declare(name="reports.total", bind=True)
    def total(self, numbers):
        note(self, numbers)
        return sum(numbers)

    @declare(name="reports.tail", bind=True)
    def tail(self, value, label):
        note(self, label)
        return [label, value]

    @declare(name="reports.caught")  # unbound: Celery calls it in place, with three arguments
    def caught(request, exc, traceback):
        app.notes.add(event="run", task="caught", id=request.id, x=str(exc))

    @declare(name="reports.fails", bind=True)
    def fails(self, x, delay=0.4, gate=None):
        note(self, x)
        app.notes.stay(delay, gate)
        raise Flaky(f"cannot do {x}")

    @declare(
        name="reports.flaky",
        bind=True,
        autoretry_for=(Flaky,),
        retry_backoff=False,
        default_retry_delay=0.3,
        max_retries=5,
    )
    def flaky(self, x, failures=2, delay=0.2, pause=None, gate=None):
        count = note(self, x)
        app.notes.stay(delay, gate)
        if self.request.retries < failures and pause is not None:
            raise self.retry(countdown=pause)
        if self.request.retries < failures:
            raise Flaky(f"attempt {self.request.retries} of {x} ({count})")
        return {"x": x, "retries": self.request.retries}

    @declare(name="reports.late", bind=True, acks_late=True, reject_on_worker_lost=True)
    def late(self, x, delay=1.0, gate=None):
        note(self, x)
        app.notes.stay(delay, gate)
        note(self, x, event="end")
        return x

    @declare(name="reports.limited", bind=True, time_limit=1.0)
    def limited(self, x, delay=30):
        note(self, x)
        time.sleep(delay)
        return x

    @declare(name="reports.softly", bind=True, soft_time_limit=0.5)
    def softly(self, x, delay=30):
        note(self, x)
        time.sleep(delay)
        return x

    @declare(name="reports.turns", bind=True)
    def turns(self, x, delay=0.3, gate=None):
        note(self, x, event="run")
        app.notes.stay(delay, gate)
        note(self, x, event="end")
        return x

    @declare(name="reports.alone", bind=True)
    def alone(self, x, delay=0.5, gate=None):
        note(self, x)
        app.notes.stay(delay, gate)
        return x

    @declare(name="reports.refused", bind=True)
    def refused(self, x):
        note(self, x)
        raise Reject("no", requeue=False)

    @declare(name="reports.unsent", bind=True)
    def unsent(self, x, gate=None):
        count = sum(line["x"] == x for line in app.notes.read("unsent")) + 1
        note(self, x)
        app.notes.stay(0, gate)
        if count == 1:
            raise self.retry(countdown=0, serializer="unknown")
        return count

    @declare(name="reports.departs", bind=True, max_retries=3)
    def departs(self, x, final=False):
        note(self, x)
        time.sleep(0.2)
        if not final:
            raise self.retry(args=(x,), kwargs={"final": True}, countdown=0)
        return {"x": x, "final": final}

    @declare(name="reports.quiet", bind=True)
    def quiet(self, x):
        note(self, x)
        if not self.request.retries:
            self.retry(countdown=0.5, throw=False)
        return self.request.retries

    @declare(name="reports.early", bind=True, base=Early)
    def early(self, x):
        note(self, x)

    @declare(name="reports.hands_on", bind=True)
    def hands_on(self, x):
        note(self, x)
        headers = dict(self.request.headers or {})
        child = work.apply_async((f"{x}-child",), {"delay": 0}, countdown=0.1, headers=headers)
        return child.id

    @declare(name="reports.progress", bind=True)
    def progress(self, steps, pause=0.05, gate=None):
        note(self, steps)
        for i in range(steps):
            if gate is None or not self.app.notes.is_open(gate):
                time.sleep(pause)
            self.update_progress(i + 1, steps)
        return steps

    @declare(name="reports.mirror", bind=True)
    def mirror(self, x, delay=0.0, gate=None):
        app.notes.stay(delay, gate)
        request = self.request
        return {
            "x": sorted(x),
            "argsrepr": request.argsrepr,
            "kwargsrepr": request.kwargsrepr,
            "compression": getattr(request, "compression", None),
            "priority": request.delivery_info["priority"],
            "tenant": getattr(request, "tenant", None),
        }

    @declare(name="reports.grids", bind=True, serializer="pickle")
    def grids(self, x, grid):
        note(self, x)
        if not self.request.retries:
            raise self.retry(args=(x, Grid(grid.cells + 1)), kwargs={}, countdown=0)
        return grid.cells

    @declare(name="reports.steps_aside", bind=True)
    def steps_aside(self, x):
        note(self, x)
        raise self.replace(work.s(x, delay=0))

    for name in conf.get("without_tasks", ()):
        app.finalize()
        app.tasks.unregister(name)
    return app


if "JOBTASTIC_TEST_CONF" in os.environ:
    app = create(json.loads(os.environ["JOBTASTIC_TEST_CONF"]))
    app.set_current()
    if os.getpgrp() == os.getpid():  # a worker, in a session of its own
        threading.Thread(target=end_with, args=(os.getppid(),), daemon=True).start()
