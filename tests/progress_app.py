"""Tasks that report how far they are, for workers of their own.

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

from celery import Celery

import jobtastic_ext
from jobtastic_ext import JobtasticStep
from tests.reports import Notes, end_with


def create(conf: dict[str, Any]) -> Celery:
    app = Celery("steps", set_as_current=False)
    app.conf.update(conf)
    app.notes = Notes(conf["notes_url"], conf["notes_name"])
    app.steps["worker"].add(JobtasticStep)
    declare = functools.partial(app.task, shared=False)

    def through(self: Any, items: int, pause: float, frequency: int = 1) -> float:
        """Take `items` steps and return the seconds that were spent in reports."""
        spent = 0.0
        for n in range(items):
            time.sleep(pause)
            began = time.perf_counter()
            self.update_progress(n + 1, items, update_frequency=frequency)
            spent += time.perf_counter() - began
        return spent

    @declare(name="steps.count", bind=True)
    def count(self, items, pause=0.002, frequency=1):
        return through(self, items, pause, frequency)

    @declare(name="steps.plain", bind=True)
    def plain(self, items, pause=0.002, frequency=1):
        return through(self, items, pause, frequency)

    @declare(name="steps.loop", bind=True)
    def loop(self, items, pause=0.1):
        for _ in self.track(range(items), message="walking"):
            time.sleep(pause)
        return items

    @declare(name="steps.unbound")
    def unbound(items, pause=0.1):
        for n in range(items):
            time.sleep(pause)
            jobtastic_ext.update_progress(n + 1, items)
        return sum(1 for _ in jobtastic_ext.track(range(3)))

    @declare(name="steps.silent", bind=True)
    def silent(self, seconds, group="one"):
        time.sleep(seconds)
        return seconds

    @declare(name="steps.burst", bind=True)
    def burst(self, pause=2.0):
        self.update_progress(1, 4)
        self.update_progress(3, 4)  # too soon after the other, and nothing follows
        time.sleep(pause)

    @declare(name="steps.fails", bind=True)
    def fails(self, x, seconds=0.5):
        self.update_progress(1, 2)
        time.sleep(seconds)
        raise ValueError(x)

    @declare(name="steps.again", bind=True, max_retries=3)
    def again(self, x):
        for n in range(10):
            time.sleep(0.1)
            self.update_progress(n + 1, 10)
            if n == 5 and self.request.retries == 0:
                raise self.retry(countdown=0.5)
        return self.request.retries

    @declare(name="steps.inner", bind=True)
    def inner(self, x=0):
        self.update_progress(9, 10)
        return sum(1 for _ in self.track(range(9)))

    @declare(name="steps.outer", bind=True)
    def outer(self, x):
        self.update_progress(1, 4)
        time.sleep(0.4)
        inner(x)
        inner.apply((x,)).get(disable_sync_subtasks=False)
        self.apply_here(x)
        time.sleep(0.4)
        self.update_progress(2, 4)
        time.sleep(0.6)

    outer.apply_here = lambda x: count.apply((3, 0.001))

    @declare(name="steps.ignored", bind=True, ignore_result=True)
    def ignored(self, x):
        self.update_progress(1, 2)
        app.notes.add(event="run", task="ignored", id=self.request.id, x=x)
        return list(self.track(range(2)))

    @declare(name="steps.limited", bind=True, soft_time_limit=1)
    def limited(self, x):
        while True:
            self.update_progress(1, 2, 0)

    @declare(name="steps.odd", bind=True)
    def odd(self, x):
        self.update_progress("x", None)
        self.update_progress(None, "y")
        self.update_progress(float("nan"), 0)
        self.update_progress(3, 0, update_frequency=0)
        self.update_progress(object(), object(), object())
        return "fine"

    @declare(name="steps.own", bind=True)
    def own(self, x):
        self.update_progress(1, 4)
        time.sleep(0.3)
        self.update_state(state="PHASE", meta={"phase": 2})
        time.sleep(0.8)
        self.update_progress(3, 4)
        time.sleep(0.6)

    @declare(name="steps.last", bind=True)
    def last(self, values, seconds=0.5):
        time.sleep(seconds)
        return len(values) if isinstance(values, list) else values

    @declare(name="steps.steady", bind=True)
    def steady(self, x, seconds):
        """Report all the time, and note how long the reports took: all together, and the worst."""
        ends, n, each = time.monotonic() + seconds, 0, []
        while time.monotonic() < ends:
            n += 1
            began = time.perf_counter()
            self.update_progress(n, 1_000_000)
            each.append(time.perf_counter() - began)
            time.sleep(0.001)
        app.notes.add(
            event="run",
            task="steady",
            id=self.request.id,
            x=x,
            calls=n,
            total=sum(each),
            worst=max(each),
            slow=sum(1 for t in each if t > 0.1),
        )

    return app


if "JOBTASTIC_TEST_CONF" in os.environ:
    app = create(json.loads(os.environ["JOBTASTIC_TEST_CONF"]))
    app.set_current()
    if os.getpgrp() == os.getpid():  # a worker, in a session of its own
        threading.Thread(target=end_with, args=(os.getppid(),), daemon=True).start()
