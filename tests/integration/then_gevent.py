"""Callbacks under gevent: prints what `then` has called, of tasks that had ended before."""

from __future__ import annotations

from gevent import monkey

monkey.patch_all()

import json  # noqa: E402
import os  # noqa: E402
import sys  # noqa: E402
import time  # noqa: E402
from typing import Any  # noqa: E402

import gevent  # noqa: E402

from tests.reports import create  # noqa: E402

app = create(json.loads(os.environ["JOBTASTIC_TEST_CONF"]))
task, called = app.tasks["reports.cached"], []


def until(holds: Any) -> bool:
    deadline = time.monotonic() + 20
    while not holds() and time.monotonic() < deadline:
        gevent.sleep(0.02)
    return bool(holds())


def ended(task_id: str) -> bool:
    payload = app.backend.get(app.backend.get_key_for_task(task_id))
    return payload is not None and b"SUCCESS" in payload


published = task.delay(sys.argv[1], delay=0)
joined = task.delay(sys.argv[1], delay=0)
until(lambda: ended(published.id))
cached = task.delay(sys.argv[1], delay=0)
for name, result in (("published", published), ("joined", joined), ("cached", cached)):
    result.then(lambda one, name=name: called.append(name))
until(lambda: len(called) == 3)
print(json.dumps(sorted(called)))
