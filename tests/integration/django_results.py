"""What `django-db` costs in sessions: run with the URL of a PostgreSQL; prints what it saw."""

from __future__ import annotations

import json
import sys
import threading
import time
import uuid
from typing import Any
from urllib.parse import parse_qs, urlsplit

import django
from django.conf import settings

parts = urlsplit(sys.argv[1])
place = parse_qs(parts.query)["host"][0]
settings.configure(
    INSTALLED_APPS=["django_celery_results"],
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": parts.path.strip("/"),
            "USER": parts.username,
            "HOST": place,
        }
    },
    USE_TZ=True,
)
django.setup()

import psycopg2  # noqa: E402
from celery import Celery  # noqa: E402
from celery.app.task import Context  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.db import connections  # noqa: E402

from jobtastic_ext.errors import ResultsUnavailable  # noqa: E402
from jobtastic_ext.results.backend import Backend  # noqa: E402
from jobtastic_ext.results.state_writer import BackendWriter  # noqa: E402
from jobtastic_ext.web import task_status  # noqa: E402

call_command("migrate", verbosity=0)
app = Celery("django-results", backend="django-db", broker="memory://")


@app.task(name="work")
def work() -> None: ...


watch = psycopg2.connect(sys.argv[1])
watch.autocommit = True
OURS = f"pid <> {watch.get_backend_pid()} and backend_type = 'client backend'"


def ask(query: str) -> Any:
    with watch.cursor() as cursor:
        cursor.execute(query)
        return cursor.fetchone()[0]


def opened() -> int:
    ask("select pg_stat_force_next_flush()")
    return int(ask("select sessions from pg_stat_database where datname = current_database()"))


def open_now() -> int:
    return int(ask(f"select count(*) from pg_stat_activity where {OURS}"))


def until(holds: Any) -> bool:
    deadline = time.monotonic() + 20
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


seen: dict[str, Any] = {}
results, writer = Backend(app, 5.0), BackendWriter(Backend(app, 5.0))
ids = [str(uuid.uuid4()) for _ in range(4)]
for task_id in ids:
    app.backend.store_result(task_id, [task_id], "SUCCESS")
connections.close_all()

before = opened()
for n in range(200):
    outcome = results.outcome(ids[n % 4])
    assert outcome is not None
    assert outcome.value == [ids[n % 4]]
until(lambda: open_now() == 0)
seen["rest"] = open_now()
until(lambda: opened() > before)  # a session is counted when it is over
seen["sessions"] = opened() - before

most, stop = [0], threading.Event()


def many() -> None:
    while not stop.is_set():
        results.outcome(ids[0])


threads = [threading.Thread(target=many) for _ in range(16)]
for thread in threads:
    thread.start()
for _ in range(20):
    most[0] = max(most[0], open_now())
    time.sleep(0.02)
stop.set()
for thread in threads:
    thread.join()
seen["most"] = most[0]

running = str(uuid.uuid4())
send = writer.sender(work, Context(id=running, args=(), kwargs={}))
assert send is not None
send({"n": 1})
task_status(app, ids[0])
ask(f"select count(pg_terminate_backend(pid)) from pg_stat_activity where {OURS}")
polls = []
for _ in range(120):
    try:
        polls.append(task_status(app, ids[0], timeout=5)["task"]["status"])
    except ResultsUnavailable as error:
        polls.append(repr(error))
seen["polls"] = sorted(set(polls[1:]))
seen["progress"] = until(lambda: send({"n": 2}) and app.AsyncResult(running).info == {"n": 2})
print(json.dumps(seen))
