"""An app of tasks whose calls differ in more than plain named arguments, as ordinary projects' do.

`create(conf)` makes it in a producer; a worker process imports the module as `tests.reports`.
"""

from __future__ import annotations

import functools
import json
import os
import threading
import time
from typing import Any

from celery import Celery, Task

from jobtastic_ext import JobtasticStep
from tests.reports import Notes, end_with

SESSION = "the session"
MISSING = object()

POLICY: dict[str, Any] = {
    "tasks": {
        "tenants.with_session": {"significant_kwargs": ["owner", "month"], "cache_duration": 60},
        "tenants.logged": {"significant_kwargs": ["owner", "month"], "cache_duration": 60},
        "tenants.options": {"significant_kwargs": ["owner", "options"], "cache_duration": 60},
        "tenants.invoices": {"significant_kwargs": ["month"], "cache_duration": 60},
        "tenants.anywhere": {"significant_kwargs": ["month"], "vary": [], "cache_duration": 60},
        "tenants.by_language": {"vary": ["headers.Accept-Language"], "cache_duration": 60},
        "tenants.place": {"cache_duration": 60},
        "tenants.months": {"cache_duration": 60},
        "tenants.missing": {"cache_duration": 60},
        "tenants.pump": {"cache_duration": 60},
        "tenants.by_name": {"cache_duration": 60},
        "tenants.calls_pump": {},
        "tenants.own_call": {"significant_kwargs": ["owner"], "cache_duration": 60},
    }
}


def with_session(function: Any) -> Any:
    @functools.wraps(function)
    def inner(*args: Any, **kwargs: Any) -> Any:
        return function(SESSION, *args, **kwargs)

    return inner


def logged(function: Any) -> Any:
    @functools.wraps(function)
    def inner(*args: Any, **kwargs: Any) -> Any:
        print(f"called with {args} and {kwargs}")
        return function(*args, **kwargs)

    return inner


class TenantTask(Task):
    """Puts the tenant of the caller into the headers, as tenant-schemas-celery does."""

    abstract = True
    tenant = threading.local()

    def apply_async(self, args: Any = None, kwargs: Any = None, **options: Any) -> Any:
        headers = dict(options.pop("headers", None) or {})
        headers.setdefault("_schema_name", getattr(self.tenant, "name", "public"))
        return super().apply_async(args, kwargs, headers=headers, **options)


class SessionTask(Task):
    """Passes an argument of its own to the body."""

    abstract = True
    typing = False

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.run(SESSION, *args, **kwargs)


def create(conf: dict[str, Any]) -> Celery:
    app = Celery(conf.get("main", "tenants"), set_as_current=False)
    app.conf.update({name: value for name, value in conf.items() if name != "main"})
    app.notes = Notes(conf["notes_url"], conf["notes_name"])
    app.steps["worker"].add(JobtasticStep)
    declare = functools.partial(app.task, shared=False)

    def note(task: Task, x: Any, event: str = "run") -> int:
        name = task.name.rpartition(".")[2]
        return app.notes.add(event=event, task=name, x=x, id=task.request.id, at=time.time())

    @declare(name="tenants.with_session")
    @with_session
    def with_a_session(session, owner, month=1):
        return [session, owner, month]

    @declare(name="tenants.logged", bind=True)
    @logged
    def with_a_log(self, owner, month=1):
        note(self, owner)
        return [owner, month]

    @declare(name="tenants.options")
    def options(owner, **options):
        return [owner, options]

    @declare(name="tenants.invoices", bind=True, base=TenantTask)
    def invoices(self, month):
        note(self, month)
        return [(self.request.headers or {}).get("_schema_name"), month]

    @declare(name="tenants.anywhere", bind=True, base=TenantTask)
    def anywhere(self, month):
        return [(self.request.headers or {}).get("_schema_name"), month]

    @declare(name="tenants.by_language", bind=True)
    def by_language(self, month):
        note(self, month)
        return (self.request.headers or {}).get("Accept-Language")

    @declare(name="tenants.place", bind=True)
    def place(self, x):
        note(self, x)
        return self.request.delivery_info["routing_key"]

    @declare(name="tenants.months", bind=True)
    def months(self, x):
        note(self, x)
        time.sleep(0.5)
        return x

    @declare(name="tenants.missing")
    def missing(x, session=MISSING):
        return [x, session is MISSING]

    @declare(name="tenants.pump", bind=True)
    def pump(self, x, times=3):
        count = note(self, x, "begin")
        count = sum(line["x"] == x for line in app.notes.read("pump", "begin"))
        if count < times:
            self.delay(x, times)
        time.sleep(0.2)
        note(self, x, "end")
        return count

    @declare(name="tenants.by_name", bind=True)
    def by_name(self, x):
        note(self, x, "begin")
        if sum(line["x"] == x for line in app.notes.read("by_name", "begin")) < 3:
            app.send_task("tenants.by_name", (x,))
        time.sleep(0.2)
        note(self, x, "end")

    @declare(name="tenants.calls_pump", bind=True)
    def calls_pump(self, x, depth=0):
        note(self, x, "begin")
        if depth == 0 and sum(line["x"] == x for line in app.notes.read("calls_pump", "begin")) < 3:
            helper(x)  # a direct call of another task, which makes the call
        time.sleep(0.2)
        note(self, x, "end")

    @declare(name="tenants.helper")
    def helper(x):
        calls_pump.delay(x)

    @declare(name="tenants.own_call", base=SessionTask)
    def own_call(session, owner, month=1):
        return [session, owner, month]

    return app


if "JOBTASTIC_TEST_CONF" in os.environ:
    app = create(json.loads(os.environ["JOBTASTIC_TEST_CONF"]))
    app.set_current()
    if os.getpgrp() == os.getpid():  # a worker, in a session of its own
        threading.Thread(target=end_with, args=(os.getppid(),), daemon=True).start()
