"""A call is sent once, as bare Celery sends it, on each kind of broker and beside others' wrappers.

What Sentry does to `apply_async` it may do before this package is imported, or after.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from celery import Celery, group
from celery.signals import before_task_publish
from kombu import Exchange, Queue

from jobtastic_ext.runtime import publish
from tests.integration.conftest import Project
from tests.workers import ROOT

#: Of kombu's transport; the last is else in the working directory.
FOLDERS = (("data", "_in"), ("data", "_out"), ("control", ""))

BROKERS = ("redis", "classic", "quorum", "memory", "filesystem")


def settings_for(broker: str, rabbitmq: Any, folder: Path, name: str) -> dict[str, Any]:
    if broker in ("classic", "quorum"):
        queue = Queue(name, Exchange(name), name, queue_arguments={"x-queue-type": broker})
        return {"broker_url": rabbitmq.url, "task_queues": [queue], "task_default_exchange": name}
    if broker == "filesystem":
        (folder / "queue").mkdir()
        place = str(folder / "queue")
        options = {f"{each}_folder{end}": place for each, end in FOLDERS}
        return {"broker_url": "filesystem://", "broker_transport_options": options}
    return {"broker_url": "memory://"} if broker == "memory" else {}


@contextmanager
def headers_sent() -> Iterator[list[dict[str, Any]]]:
    seen: list[dict[str, Any]] = []

    def see(headers: dict[str, Any], **_: Any) -> None:
        seen.append(dict(headers))

    before_task_publish.connect(see)
    try:
        yield seen
    finally:
        before_task_publish.disconnect(see)


def received(app: Celery, queue: str) -> list[Any]:
    """Take the messages out of a queue, as they are."""
    messages = []
    with app.connection_for_read() as connection:
        source = connection.SimpleQueue(app.amqp.queues[queue])
        while True:
            try:
                messages.append(source.get(timeout=0.3))
            except source.Empty:
                return messages
            messages[-1].ack()


@pytest.mark.parametrize("mode", ["raise", "fail"])
@pytest.mark.parametrize("broker", BROKERS)
def test_one_message_as_celery_makes_it(
    start_project: Any, request: Any, unique: str, tmp_path: Path, broker: str, mode: str
) -> None:
    on_amqp = broker in ("classic", "quorum")
    rabbitmq = request.getfixturevalue("rabbitmq") if on_amqp else None
    name = f"transport-{unique}"
    project: Project = start_project(
        **settings_for(broker, rabbitmq, tmp_path, name),
        task_default_queue=name,
        jobtastic_policy={"tasks": {"reports.based": {"on_broker_error": mode}}},
    )
    based = project.task("based")
    results = [based.delay(unique), based.delay(unique)]
    bare = publish(project.task("plain"), (unique,))
    assert results[0].id == results[1].id
    ours, usual = received(project.app, name)
    assert (ours.headers["id"], usual.headers["id"]) == (results[0].id, bare.id)
    assert set(ours.headers) == {*usual.headers, "jobtastic"}
    assert (ours.content_type, ours.content_encoding) == (
        usual.content_type,
        usual.content_encoding,
    )
    assert ours.properties.keys() == usual.properties.keys()
    assert ours.payload[:2] == usual.payload[:2]


def test_parts_of_a_group_leave_no_mark_of_their_arrival(start_project: Any, unique: str) -> None:
    # They have no fallback that could be taken beside their message.  10,000 identical ones were
    # 100 s of the store's processor.
    project = start_project(
        jobtastic_policy={"tasks": {"reports.based": {"on_broker_error": "fail"}}}
    )
    based = project.task("based")
    with headers_sent() as seen:
        group(based.s(unique) for _ in range(4)).apply_async()
        based.apply_async((unique,), task_id=f"{unique}-alone")
    guarded = [headers["jobtastic"]["guarded"] for headers in seen]
    assert guarded == [False] * 4 + [True]


WRAPPED = """
import functools
from celery import Celery, Task

calls = []

def wrap():
    beneath = Task.apply_async

    @functools.wraps(beneath)
    def apply_async(*args, **kwargs):  # as Sentry's does
        calls.append(args[0].name)
        headers = {**(kwargs.get("headers") or {}), "sentry-trace": str(len(calls))}
        return beneath(*args, **{**kwargs, "headers": headers})

    Task.apply_async = apply_async

if %(first)r:
    wrap()
import jobtastic_ext
if not %(first)r:
    wrap()

from celery.signals import before_task_publish
sent = []

@before_task_publish.connect(weak=False)
def see(headers, **_):
    sent.append(headers)

app = Celery("wrapped", broker="memory://", backend="cache+memory://")
app.conf.jobtastic_store = "memory://wrapped"
app.conf.jobtastic_policy = {"tasks": {"t": {}, "f": {"on_broker_error": "fail"}}}
app.steps["worker"].add(jobtastic_ext.JobtasticStep)

def body(x):
    return x

for name in "tf":
    task = app.task(body, name=name)
    first, second = task.delay(1), task.delay(1)
    assert first.id == second.id, (first.decision, second.decision)
    assert task.delay_or_fail(1).id == first.id
assert len(sent) == 2, sent
assert all(h["sentry-trace"] and h["jobtastic"]["id"] == h["id"] for h in sent), sent
assert len(calls) == (2 if %(first)r else 6), calls
jobtastic_ext.uninstall()
task.delay(1), task.delay(1)
assert len(sent) == 4, sent
assert "sentry-trace" in sent[-1] and "jobtastic" not in sent[-1]
"""


@pytest.mark.parametrize("first", [True, False], ids=["before the import", "after it"])
def test_a_wrapper_around_apply_async(first: bool) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", WRAPPED % {"first": first}],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
