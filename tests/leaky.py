"""Tasks whose memory is watched, on top of the app of `tests.reports`."""

from __future__ import annotations

import functools
import importlib
import os
import time
from typing import Any

from celery import Celery, Task

from jobtastic_ext.memory.meter import Budget
from jobtastic_ext.signals import memory_leak_detected
from tests import reports

PAGE = os.sysconf("SC_PAGE_SIZE")

held: list[Any] = []


def resident() -> float:
    """The resident memory of this process, as the kernel tells it, in MB."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * PAGE / 1e6


def filled(mb: float) -> bytearray:
    return bytearray(b"x") * int(mb * 1e6)


class Warned(Task):
    """A base class that wants to be told of leaks itself."""

    abstract = True

    def warn_of_memory_leak(
        self, growth: float, beginning_usage: float, ending_usage: float, task_kwargs: Any
    ) -> None:
        self.app.notes.add(
            event="warned",
            task=self.name.rpartition(".")[2],
            id=self.request.id,
            numbers=[growth, beginning_usage, ending_usage],
            kwargs=task_kwargs,
        )
        raise reports.Flaky("the hook itself fails")


def extend(app: Celery) -> Celery:
    """Add the tasks, and note what the signal tells where it is sent."""
    # A run here takes no time, and on a slow machine a look at a heap more than it may.
    Budget.LEAST = 0.05
    declare = functools.partial(app.task, shared=False)

    def note(task: Task, x: Any, **more: Any) -> None:
        name = task.name.rpartition(".")[2]
        app.notes.add(event="run", task=name, id=task.request.id, x=x, **more)

    @declare(name="leaky.keeps", bind=True)
    def keeps(self, x, mb=0.0, secret=None):
        before = resident()
        held.append(filled(mb))
        note(self, x, before=before, after=resident())
        return x

    @declare(name="leaky.warned", bind=True, base=Warned)
    def warned(self, x, mb=0.0):
        held.append(filled(mb))
        note(self, x)

    @declare(name="leaky.fails", bind=True)
    def fails(self, x, mb=0.0):
        held.append(filled(mb))
        note(self, x)
        raise reports.Flaky("on purpose")

    @declare(name="leaky.retries", bind=True, max_retries=2)
    def retries(self, x, mb=0.0):
        held.append(filled(mb))
        note(self, x)
        if self.request.retries < 2:
            raise self.retry(countdown=0)
        return x

    @declare(name="leaky.shared", bind=True)
    def shared(self, x, mb=0.0, delay=1.0):
        held.append(filled(mb))
        note(self, x)
        time.sleep(delay)
        return x

    @declare(name="leaky.imports", bind=True)
    def imports(self, x, module, mb=0.0):
        importlib.import_module(module)
        held.append(filled(mb))
        note(self, x)

    @declare(name="leaky.recycled", bind=True)
    def recycled(self, x, mb=0.0):
        held.append(filled(mb))
        note(self, x)
        time.sleep(0.01)
        return x

    @declare(name="leaky.recycled_late", bind=True, acks_late=True, reject_on_worker_lost=True)
    def recycled_late(self, x, mb=0.0):
        held.append(filled(mb))
        note(self, x)
        time.sleep(0.01)
        return x

    @declare(name="leaky.traced", bind=True)
    def traced(self, x, mb=0.0):
        held.append(filled(mb))
        return str(filled(mb)[:100_000])

    @declare(name="leaky.other", bind=True)
    def other(self, x, delay=0.0):
        time.sleep(delay)
        return x

    def detected(sender: Task, **facts: Any) -> None:
        shown = {key: value for key, value in facts.items() if key != "signal"}
        app.notes.add(event="signal", task=sender.name.rpartition(".")[2], **shown)

    app.leaky_receiver = detected  # kept alive with the app
    if "JOBTASTIC_TEST_CONF" in os.environ:
        memory_leak_detected.connect(detected, weak=False)
    return app


if "JOBTASTIC_TEST_CONF" in os.environ:
    app = extend(reports.app)
