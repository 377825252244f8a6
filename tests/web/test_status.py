"""What is told of a task, without any framework: `task_status` over a real Redis."""

from __future__ import annotations

import datetime
import decimal
import json
import logging
import os
import signal
import time
import uuid
from typing import Any

import pytest
from celery import Celery

from jobtastic_ext import JobtasticStep
from jobtastic_ext.claims.records import Begin, Release
from jobtastic_ext.errors import InvalidTaskId, ResultsUnavailable
from jobtastic_ext.runtime import runtime_of
from jobtastic_ext.testing.server import EmbeddedServer
from jobtastic_ext.web import task_status
from jobtastic_ext.web.status import retry_after
from jobtastic_ext.web.stored import LONGEST_MESSAGE, Limits, read_stored
from tests.integration.conftest import Project, wait_until


class Odd(Exception):
    """Needs more than its message to be made again."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(code, text)
        self.code = code


def store(project: Project, state: str, result: Any, **options: Any) -> str:
    task_id = str(uuid.uuid4())
    project.app.backend.store_result(task_id, result, state, **options)
    return task_id


def status(project: Project, task_id: str, timeout: float = 20, **options: Any) -> dict[str, Any]:
    found = task_status(project.app, task_id, timeout=timeout, **options)
    assert list(found) == ["task"]
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    task: dict[str, Any] = found["task"]
    assert task["id"] == task_id
    return task


def test_states_of_a_task_that_goes_on(project: Project) -> None:
    pending = status(project, str(uuid.uuid4()))
    assert pending["status"] == "PENDING"
    assert pending["result"] is None
    assert "retry_after" not in pending
    # Celery stores the worker's host and process id with STARTED; they are not for the page.
    started = status(project, store(project, "STARTED", {"pid": 7, "hostname": "w@secret"}))
    assert started["status"] == "STARTED"
    assert started["result"] is None
    report = {"progress_percent": 25.0, "time_remaining": 60, "message": "reading"}
    progress = status(project, store(project, "PROGRESS", report))
    assert (progress["status"], progress["result"]) == ("PROGRESS", report)
    assert progress["retry_after"] == 6
    own = status(project, store(project, "UPLOADING", {"file": "a", "key": "mine"}))
    assert (own["status"], own["result"]) == ("UPLOADING", {"file": "a", "key": "mine"})
    retry = status(project, store(project, "RETRY", ValueError("later")))
    assert (retry["status"], retry["result"], retry["exc"]) == ("RETRY", "later", "ValueError")


def test_the_place_in_the_queue(start_project: Any, unique: str) -> None:
    project: Project = start_project()  # without a worker
    results = [project.task("plain").delay(f"{unique}{n}") for n in range(4)]
    assert [status(project, one.id)["queue"] for one in results] == [{"ahead": n} for n in range(4)]
    assert "queue" not in status(project, str(uuid.uuid4()))


def test_a_web_process_without_the_policy(project: Project, caplog: Any) -> None:
    """It tells of tasks all the same, and says once what it does not know."""
    app = Celery("web", set_as_current=False)
    app.conf.update({**project.conf, "jobtastic_policy": "/nowhere/jobtastic.yaml"})
    app.steps["worker"].add(JobtasticStep)
    task_id, key = str(uuid.uuid4()), f"{project.conf['jobtastic_key_prefix']}:web:x"
    report_of(project, task_id, key)
    for _ in range(3):
        assert task_status(app, task_id)["task"]["status"] == "PROGRESS"
        assert task_status(app, str(uuid.uuid4()))["task"]["status"] == "PENDING"
    assert caplog.text.count("/nowhere/jobtastic.yaml") == 1


def test_states_of_a_task_that_has_ended(project: Project) -> None:
    value = {"rows": [[1, 2.5, None], ["ä", True, {}]]}
    success = status(project, store(project, "SUCCESS", value))
    assert abs(success.pop("ended") - time.time()) < 60
    assert success == {"id": success["id"], "status": "SUCCESS", "result": value}
    nothing = status(project, store(project, "SUCCESS", None))
    assert nothing.pop("ended")
    assert nothing == {"id": nothing["id"], "status": "SUCCESS", "result": None}
    failure = store(project, "FAILURE", ZeroDivisionError("no"), traceback="Traceback: secret")
    assert status(project, failure) == {
        "id": failure,
        "status": "FAILURE",
        "result": "no",
        "exc": "ZeroDivisionError",
    }
    assert status(project, failure, tracebacks=True)["traceback"] == "Traceback: secret"
    revoked = store(project, "REVOKED", None)
    assert status(project, revoked) == {
        "id": revoked,
        "status": "REVOKED",
        "result": "",
        "exc": "Exception",
    }


def test_an_exception_that_cannot_be_made_again(project: Project) -> None:
    odd = status(project, store(project, "FAILURE", Odd(7, "seven")))
    assert odd["exc"] == "Odd"
    assert "seven" in odd["result"]
    # Celery refuses to make what is stored as an exception but is none.
    fake = {"exc_type": "system", "exc_module": "os", "exc_message": ["date"]}
    task_id = str(uuid.uuid4())
    payload = project.app.backend.encode(
        {"status": "FAILURE", "result": fake, "traceback": None, "task_id": task_id}
    )
    project.app.backend.set(project.app.backend.get_key_for_task(task_id), payload)
    found = status(project, task_id)
    assert (found["status"], found["exc"]) == ("FAILURE", "system")
    assert found["result"] == "date"


def test_a_long_message_is_cut(project: Project) -> None:
    task_id = store(project, "FAILURE", ValueError("x" * 1_000_000))
    assert status(project, task_id)["result"] == "x" * LONGEST_MESSAGE


def test_values_that_celery_can_store_and_json_cannot_hold(project: Project) -> None:
    """kombu's JSON gives back dates, decimals and the like; NaN is no JSON for a browser."""
    day, number = datetime.date(2024, 2, 3), decimal.Decimal("1.10")
    value = {"day": day, "number": number, "nan": float("nan")}
    found = status(project, store(project, "SUCCESS", value))
    assert found["result"] == {"day": "2024-02-03", "number": "1.10", "nan": None}


@pytest.mark.parametrize(
    "value", [object(), {"f": len}, "\ud800"], ids=["object", "function", "surrogate"]
)
def test_a_result_that_cannot_be_json(project: Project, value: Any) -> None:
    conf = {**project.conf, "result_serializer": "pickle", "accept_content": ["json", "pickle"]}
    app = Celery("pickles", set_as_current=False)
    app.conf.update(conf)
    task_id = str(uuid.uuid4())
    app.backend.store_result(task_id, value, "SUCCESS")
    task = task_status(app, task_id)["task"]
    assert (task["status"], task["result"]) == ("SUCCESS", None)
    assert task["omitted"].startswith("the result cannot be JSON")


def test_a_result_that_refers_to_itself(project: Project) -> None:
    app = Celery("pickles", set_as_current=False)
    app.conf.update(project.conf, result_serializer="pickle", accept_content=["pickle"])
    loop: list[Any] = []
    loop.append(loop)
    task_id = str(uuid.uuid4())
    app.backend.store_result(task_id, loop, "SUCCESS")
    assert "cannot be JSON" in task_status(app, task_id)["task"]["omitted"]


def test_a_result_that_this_process_does_not_accept(
    project: Project, caplog: pytest.LogCaptureFixture
) -> None:
    app = Celery("pickles", set_as_current=False)
    app.conf.update(project.conf, result_serializer="pickle", accept_content=["pickle"])
    task_id = str(uuid.uuid4())
    app.backend.store_result(task_id, 1, "SUCCESS")
    with caplog.at_level(logging.WARNING, logger="jobtastic_ext"):
        task = status(project, task_id)
    assert task["status"] == "FAILURE"
    assert "result_serializer" in caplog.text


def test_a_large_result(project: Project) -> None:
    text = "x" * 20_000_000
    task_id = store(project, "SUCCESS", text)
    task = status(project, task_id)
    assert task["result"] is None
    assert task["omitted"].startswith("the result is too large to show: 20,000,")
    assert status(project, task_id, max_result=None)["result"] == text


@pytest.mark.parametrize(
    "bad",
    ["", " ", "..", "../../etc/passwd", "a/b", "a\r\nX: y", "a\n", "é", "a'; DROP TABLE x", "%2e",
     "x" * 129, "x" * 10_000_000, "-a", None, 7, b"a"],
    ids=lambda bad: repr(bad)[:20],
)  # fmt: skip
def test_a_bad_id_is_refused_before_anything_is_asked(bad: Any) -> None:
    app = Celery("nowhere", set_as_current=False)
    app.conf.result_backend = "redis://127.0.0.1:1/0"
    with pytest.raises(InvalidTaskId) as caught:
        task_status(app, bad)
    assert len(str(caught.value)) < 200


# A run whose worker died


def running(project: Project, task_id: str, lease: int) -> tuple[str, Begin]:
    runtime = runtime_of(project.app)
    assert runtime is not None
    key = f"{runtime.settings.key_prefix}:web:{uuid.uuid4().hex}"
    begun = Begin(task_id=task_id, run=f"{task_id}.1", lease=lease, herd=60_000)
    assert runtime.store.apply(key, begun).word == "run"
    return key, begun


def report_of(project: Project, task_id: str, key: str) -> None:
    report = {"progress_percent": 50.0, "time_remaining": 3.0, "key": key}
    project.app.backend.store_result(task_id, report, "PROGRESS")


def test_a_run_is_lost_when_its_lease_is_over(project: Project) -> None:
    task_id = str(uuid.uuid4())
    key, _ = running(project, task_id, 400)
    report_of(project, task_id, key)
    alive = status(project, task_id)
    assert alive["status"] == "PROGRESS"
    assert "key" not in alive["result"]
    time.sleep(0.5)
    # Its store may have been away until now, and whoever keeps the lease not have found it yet.
    maybe = status(project, task_id)
    assert (maybe["status"], maybe["retry_after"]) == ("PROGRESS", 0.5)
    wait_until(lambda: status(project, task_id)["status"] == "FAILURE")
    lost = status(project, task_id)
    assert (lost["status"], lost["lost"], lost["exc"]) == ("FAILURE", True, "WorkerLostError")
    assert "worker" in lost["result"]
    assert "retry_after" not in lost


def test_a_run_is_not_lost_while_somebody_else_sees_to_it(project: Project) -> None:
    runtime = runtime_of(project.app)
    assert runtime is not None
    task_id = str(uuid.uuid4())
    key, _ = running(project, task_id, 10)
    report_of(project, task_id, key)
    wait_until(lambda: status(project, task_id)["status"] == "FAILURE")
    # Another message took the claim: whoever runs it stores the outcome for this id, too.
    other = Begin(task_id="another", run="another.1", lease=10, herd=60_000)
    assert runtime.store.apply(key, other).word == "run"
    time.sleep(0.05)
    assert status(project, task_id)["status"] == "PROGRESS"
    runtime.store.apply(key, Release(task_id="another", run="another.1", hold=0))
    assert status(project, task_id)["status"] == "PROGRESS"


def test_a_worker_that_is_killed(start_project: Any, unique: str) -> None:
    """Its run is lost once the lease (2 s) is over; the next call runs under the same id."""
    # A page waits longer where a call of the store may take long.
    project: Project = start_project(jobtastic_store_timeout=1)
    worker = project.worker(concurrency=1)
    work = project.task("progress")
    result = work.delay(1_000, gate=unique)
    wait_until(lambda: status(project, result.id)["status"] == "PROGRESS")
    worker.kill()
    assert status(project, result.id)["status"] == "PROGRESS"  # nobody can know yet
    wait_until(lambda: status(project, result.id).get("lost"))
    assert status(project, result.id)["status"] == "FAILURE"
    again = work.delay(1_000, gate=unique)
    assert again.id == result.id
    assert status(project, result.id)["status"] != "FAILURE"
    project.notes.open(unique)
    project.worker(concurrency=1)
    wait_until(lambda: status(project, result.id)["status"] == "SUCCESS")


def test_a_run_is_not_lost_by_an_outage(start_project: Any, unique: str) -> None:
    """One of store and backend, longer than the lease (2 s): its keeper could not renew it."""
    with EmbeddedServer() as server:
        project: Project = start_project(
            jobtastic_store=server.url(0), result_backend=server.url(1)
        )
        project.worker(concurrency=1)
        result = project.task("progress").delay(3_000, pause=0.1)
        wait_until(lambda: status(project, result.id)["status"] == "PROGRESS")
        os.kill(server.pid, signal.SIGSTOP)
        time.sleep(4)
        os.kill(server.pid, signal.SIGCONT)
        seen: list[dict[str, Any]] = []

        def known() -> bool:
            try:
                seen.append(status(project, result.id))
            except ResultsUnavailable:
                return False
            return True

        wait_until(known)
        end = time.monotonic() + 3
        while time.monotonic() < end:
            known()
        wait_until(lambda: known() and seen[-1]["result"] != seen[0]["result"])
        assert [task for task in seen if task["status"] != "PROGRESS"] == []


def test_the_key_of_a_report_is_believed_only_under_our_prefix(project: Project) -> None:
    report = {"progress_percent": 50.0, "key": "celery-task-meta-secret"}
    task_id = store(project, "PROGRESS", report)
    assert status(project, task_id)["result"] == report


@pytest.mark.parametrize(
    ("report", "seconds"),
    [
        ({"time_remaining": 2}, 0.5),
        ({"time_remaining": 60}, 6),
        ({"time_remaining": 10_000}, 15),
        ({"time_remaining": -1}, None),
        ({"time_remaining": -1, "elapsed": 50}, 5),
        ({"time_remaining": -1, "elapsed": 1}, 1),
        ({"time_remaining": float("nan"), "elapsed": float("inf")}, None),
        ({"time_remaining": "soon", "elapsed": None}, None),
        ({"time_remaining": 10**400, "elapsed": -(10**400)}, None),
        ("odd", None),
        (None, None),
    ],
)
def test_when_to_ask_again(project: Project, report: Any, seconds: float | None) -> None:
    meta = {"status": "PROGRESS", "result": report}
    assert retry_after(read_stored(project.app.backend, "a", meta, Limits())) == seconds
