"""The app that chaos is done to, and the history that its tasks write.

The history is a list in a Redis of its own, which chaos does not touch.  Its lines:

- ``call``: a caller asked (`ids` it was given, or `error`), with the moments before and after;
- ``start`` and ``finish`` of a body, with the process that runs it;
- ``harm``: what the nemesis did, from when to when.
"""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from typing import Any

import redis
from celery import Celery

from jobtastic_ext import JobtasticStep

#: The tasks that have a policy.
NAMES = ("chaos.early", "chaos.late", "chaos.again", "chaos.quiet")

#: Those of which a call is answered by a run that begins after it.
LATER = ("chaos.again", "chaos.quiet")


class History:
    def __init__(self, url: str) -> None:
        self.client = redis.Redis.from_url(url)

    def add(self, event: str, **line: Any) -> None:
        line = {"event": event, "at": time.time(), "pid": os.getpid(), **line}
        self.client.rpush("history", json.dumps(line))

    def close(self) -> None:
        self.client.close()

    def read(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.client.lrange("history", 0, -1)]


def create(conf: dict[str, Any]) -> Celery:
    app = Celery("chaos", set_as_current=False)
    app.conf.update(conf)
    app.history = History(conf["history_url"])
    app.steps["worker"].add(JobtasticStep)

    def work(task: Any, key: int, seconds: float) -> float:
        """Return when it has begun."""
        mark = {"id": task.request.id, "key": key, "task": task.name}
        began = time.time()
        app.history.add("start", at=began, seconds=seconds, **mark)
        time.sleep(seconds)
        app.history.add("finish", **mark)
        return began

    @app.task(name="chaos.early", bind=True, shared=False)
    def early(self: Any, key: int, seconds: float = 0.2) -> int:
        work(self, key, seconds)
        return key

    @app.task(
        name="chaos.late", bind=True, shared=False, acks_late=True, reject_on_worker_lost=True
    )
    def late(self: Any, key: int, seconds: float = 0.2) -> int:
        work(self, key, seconds)
        return key

    def later(self: Any, key: int, seconds: float = 0.2) -> float:
        return work(self, key, seconds)

    for name in LATER:
        app.task(
            later, name=name, bind=True, shared=False, acks_late=True, reject_on_worker_lost=True
        )

    @app.task(name="chaos.total", shared=False, acks_late=True, reject_on_worker_lost=True)
    def total(numbers: list[int]) -> int:
        return sum(numbers)

    @app.task(name="chaos.tail", shared=False, acks_late=True, reject_on_worker_lost=True)
    def tail(number: int) -> int:
        return number + 1

    return app


def end_with(parent: int) -> None:
    """End this worker and its children when what started it is gone, however."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os.killpg(0, signal.SIGKILL)


if "JOBTASTIC_TEST_CONF" in os.environ:
    app = create(json.loads(os.environ["JOBTASTIC_TEST_CONF"]))
    app.set_current()
    if os.getpgrp() == os.getpid():
        threading.Thread(target=end_with, args=(os.getppid(),), daemon=True).start()
