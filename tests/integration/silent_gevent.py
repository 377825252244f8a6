"""One call with a silent broker under gevent: prints how long it took, and how others fared."""

from __future__ import annotations

from gevent import monkey

monkey.patch_all()

import json  # noqa: E402
import os  # noqa: E402
import time  # noqa: E402

import gevent  # noqa: E402

from tests.reports import create  # noqa: E402

app = create(json.loads(os.environ["JOBTASTIC_TEST_CONF"]))
ticks: list[float] = []


def tick() -> None:
    while True:
        ticks.append(time.monotonic())
        gevent.sleep(0.01)


gevent.spawn(tick)
began = time.monotonic()
result = app.tasks["reports.work"].delay_or_fail("x")
took = time.monotonic() - began
print(json.dumps({"took": took, "state": result.state, "ticks": len(ticks)}))
