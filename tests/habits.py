"""Ordinary Celery tasks, each twice: under the policy as ``ours.…``, and bare as ``bare.…``.

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

from celery import Celery, Task, chain, chord, group, shared_task

from tests.whole_files import Channel, put
from tests.workers import end_with

#: SDKs that patch Celery, too: set up before we are imported, or after.
BESIDE: dict[str, Any] = json.loads(os.environ.get("JOBTASTIC_TEST_CONF", "{}")).get("beside", {})


def set_up(when: str) -> None:
    """Set up the SDK that is to stand beside us, as its documents say."""
    if BESIDE.get("when") != when:
        return
    if BESIDE["sdk"] == "sentry":
        import sentry_sdk
        from sentry_sdk.integrations.celery import CeleryIntegration

        sentry_sdk.init(
            "http://key@127.0.0.1:1/1", traces_sample_rate=1.0, integrations=[CeleryIntegration()]
        )
    else:
        from opentelemetry import trace
        from opentelemetry.instrumentation.celery import CeleryInstrumentor
        from opentelemetry.sdk.trace import TracerProvider

        trace.set_tracer_provider(TracerProvider())
        CeleryInstrumentor().instrument()


set_up("before")

from jobtastic_ext import JobtasticStep  # noqa: E402 - whose order is what is tried


class Odd(Exception):
    """Raised by tasks that fail on purpose."""


def declare(app: Celery, prefix: str) -> None:
    task = functools.partial(app.task, shared=False)

    @task(name=f"{prefix}.add")
    def add(a, b):
        return a + b

    @task(name=f"{prefix}.gated")
    def gated(path):
        deadline = time.monotonic() + 60
        while not os.path.exists(path) and time.monotonic() < deadline:
            time.sleep(0.02)
        return path

    @task(name=f"{prefix}.fails")
    def fails(x):
        raise Odd(f"cannot do {x}")

    @task(
        name=f"{prefix}.flaky",
        bind=True,
        autoretry_for=(Odd,),
        max_retries=3,
        default_retry_delay=0.1,
        retry_backoff=False,
    )
    def flaky(self, x, failures=2):
        if self.request.retries < failures:
            raise Odd(x)
        return [x, self.request.retries]

    @task(name=f"{prefix}.replaced", bind=True)
    def replaced(self, x):
        raise self.replace(add.s(x, "!"))

    @task(name=f"{prefix}.priority", bind=True)
    def priority(self, x):
        return [x, (self.request.delivery_info or {}).get("priority")]

    @task(name=f"{prefix}.headers", bind=True)
    def headers(self, x):
        return sorted(
            name for name in (self.request.headers or {}) if name in ("sentry-trace", "traceparent")
        )

    @task(name=f"{prefix}.list")
    def as_list(values):
        return [values]

    class Counted(Task):
        """A task that is a class, and keeps something of its own."""

        name = f"{prefix}.counted"

        def __init__(self) -> None:
            self.word = "counted"

        def run(self, x, *, more=1):
            return [self.word, x, more, self.name]

    app.register_task(Counted())


@shared_task(name="ours.shared")
def shared_ours(x):
    return ["shared", x]


@shared_task(name="bare.shared")
def shared_bare(x):
    return ["shared", x]


def create(conf: dict[str, Any]) -> Celery:
    app = Celery("habits", set_as_current=False)
    app.conf.update(conf)
    app.steps["worker"].add(JobtasticStep)
    for prefix in ("ours", "bare"):
        declare(app, prefix)
    set_up("after")
    return app


def outcome(app: Celery, prefix: str, habit: str, x: str) -> Any:
    """Do as a user does; return what comes of it, or how it fails."""
    task = {name.rpartition(".")[2]: each for name, each in app.tasks.items() if prefix in name}
    add = task["add"]
    calls = {
        "delay": lambda: add.delay(x, "+"),
        "shared_task": lambda: task["shared"].delay(x),
        "class": lambda: task["counted"].delay(x, more=2),
        "send_task": lambda: app.send_task(f"{prefix}.add", (x, "+")),
        "countdown": lambda: add.apply_async((x, "+"), countdown=0.2),
        "priority": lambda: task["priority"].apply_async((x,), priority=3),
        "failure": lambda: task["fails"].delay(x),
        "autoretry": lambda: task["flaky"].delay(x),
        "retries used up": lambda: task["flaky"].delay(x, 9),
        "replace": lambda: task["replaced"].delay(x),
        "chain": lambda: chain(add.s(x, "+"), add.s("-"), add.s("*"))(),
        "group": lambda: group(add.s(x, "+") for _ in range(3))(),
        "chord": lambda: chord([add.s(x, "+"), add.s(x, "-")])(task["list"].s()),
        "chord error": lambda: chord([add.s(x, "+"), task["fails"].s(x)])(task["list"].s()),
        "replace in a chain": lambda: chain(task["replaced"].s(x), add.s("."))(),
        "ignore_result": lambda: add.apply_async((x, "+"), ignore_result=True).id and None,
    }
    try:
        result = calls[habit]()
        if result is None:
            return None
        # With its parents, `get` raises a part's own error if that part has failed by then, and
        # the chord's if it has not.
        alone = {"follow_parents": False} if habit == "chord error" else {}
        value = result.get(timeout=30, interval=0.05, **alone)
        return value if habit == "group" else [value, result.status, result.successful()]
    except Exception as error:  # noqa: BLE001 - what it is, is what is compared
        # A message names ids and, within a chord, the task.
        return [type(error).__name__, "cannot do" in str(error)]


if "JOBTASTIC_TEST_CONF" in os.environ:
    Channel._put = put
    app = create(json.loads(os.environ["JOBTASTIC_TEST_CONF"]))
    app.set_current()
    if os.getpgrp() == os.getpid():  # a worker, in a session of its own
        threading.Thread(target=end_with, args=(os.getppid(),), daemon=True).start()
