"""The views of all three frameworks, over HTTP, with a real worker: the same in each."""

from __future__ import annotations

import http.client
import json
import logging
import socket
import time
import uuid
from typing import Any
from urllib.parse import quote

import pytest
from celery import Celery
from django.core.exceptions import ImproperlyConfigured

from jobtastic_ext.errors import ConfigurationError
from jobtastic_ext.testing.server import LOOPBACK
from tests.integration.conftest import Project, wait_until
from tests.reports import Flaky
from tests.servers import SilentServer, closed_port
from tests.web.sites import Site, configure_django, site


def store(project: Project, state: str, result: Any) -> str:
    task_id = str(uuid.uuid4())
    project.app.backend.store_result(task_id, result, state)
    return task_id


# A task from its call to its end


def test_a_task_from_its_call_to_its_end(pages: Site, project: Project) -> None:
    steps = 10 + uuid.uuid4().int % 1000 / 1000  # a call of its own; the body takes whole steps
    result = project.task("progress").apply_async((int(steps),), {"pause": 0.3}, refresh=True)
    seen: list[dict[str, Any]] = []

    def ended() -> bool:
        seen.append(pages.task(result.id))
        return seen[-1]["status"] == "SUCCESS"

    wait_until(ended)
    assert seen[-1]["result"] == 10
    percents = [t["result"]["progress_percent"] for t in seen if t["status"] == "PROGRESS"]
    assert len(set(percents)) >= 3
    assert percents == sorted(percents)
    known = [t for t in seen if t["status"] == "PROGRESS" and t["result"]["time_remaining"] >= 0]
    assert known
    assert all(task["retry_after"] > 0 for task in known)


def test_a_task_that_fails(pages: Site, project: Project, unique: str) -> None:
    result = project.task("fails").delay(unique, delay=0)
    wait_until(lambda: pages.task(result.id)["status"] == "FAILURE")
    task = pages.task(result.id)
    assert (task["result"], task["exc"]) == (f"cannot do {unique}", "Flaky")
    assert "traceback" not in json.dumps(task).lower()


def test_a_task_that_is_revoked(pages: Site, project: Project, unique: str) -> None:
    task_id = str(uuid.uuid4())
    # Before it is sent: it would run if the worker heard of it too late.
    assert project.app.control.revoke(task_id, reply=True, timeout=60, limit=1)
    result = project.task("plain").apply_async((unique,), task_id=task_id)
    wait_until(lambda: pages.task(result.id)["status"] == "REVOKED")
    assert pages.task(result.id)["exc"] == "TaskRevokedError"


def test_headers(pages: Site, project: Project) -> None:
    task_id = store(project, "SUCCESS", 1)
    reply = pages.status(task_id)
    assert reply.headers["Content-Type"] == "application/json"
    assert reply.headers["Cache-Control"] == "no-store"
    assert reply.headers["X-Content-Type-Options"] == "nosniff"
    tag = reply.headers["ETag"]
    again = pages.get(f"/task/{task_id}/status/", If_None_Match=tag)
    assert (again.status, again.body) == (304, b"")
    assert again.headers["ETag"] == tag
    weak = pages.get(f"/task/{task_id}/status/", If_None_Match=f'"other", W/{tag}')
    assert weak.status == 304
    other = store(project, "SUCCESS", 2)
    assert pages.get(f"/task/{other}/status/", If_None_Match=tag).json["task"]["result"] == 2


def test_methods(pages: Site, project: Project) -> None:
    task_id = store(project, "SUCCESS", 1)
    head = pages.get(f"/task/{task_id}/status/", method="HEAD")
    assert (head.status, head.body) == (200, b"")
    for method in ("POST", "PUT", "DELETE"):
        reply = pages.get(f"/task/{task_id}/status/", method=method)
        assert (reply.status, "GET" in reply.headers["Allow"]) == (405, True)


def test_the_documented_call_of_the_old_client(pages: Site, project: Project) -> None:
    """jQuery adds a time stamp to the query (`cache: false`)."""
    task_id = store(project, "PROGRESS", {"progress_percent": 40, "time_remaining": 3})
    reply = pages.get(
        f"/task/{task_id}/status/?_=1700000000000",
        Accept="application/json, text/javascript, */*; q=0.01",
        X_Requested_With="XMLHttpRequest",
    )
    task = reply.json["task"]
    assert task["status"] == "PROGRESS"
    assert task["result"] == {"progress_percent": 40, "time_remaining": 3}


# Many at once


def test_many_at_once(pages: Site, project: Project) -> None:
    ids = [store(project, "SUCCESS", n) for n in range(3)] + [str(uuid.uuid4())]
    tasks = pages.many([*ids, ids[0]]).json["tasks"]
    assert [task["id"] for task in tasks] == ids
    assert [task["result"] for task in tasks] == [0, 1, 2, None]
    assert tasks[3]["status"] == "PENDING"


def test_a_hundred_and_one_more(pages: Site) -> None:
    ids = [str(uuid.uuid4()) for _ in range(101)]
    reply = pages.many(ids[:100])
    assert [task["id"] for task in reply.json["tasks"]] == ids[:100]
    reply = pages.many(ids)
    assert reply.status == 400
    assert "100" in reply.json["error"]
    assert pages.many([]).status == 400
    assert pages.many([ids[0], "a b"]).status == 400


def test_one_unreadable_result_does_not_hide_the_others(pages: Site, project: Project) -> None:
    good, bad = store(project, "SUCCESS", 1), str(uuid.uuid4())
    project.app.backend.set(project.app.backend.get_key_for_task(bad), "no result at all")
    tasks = pages.many([good, bad]).json["tasks"]
    assert [task["status"] for task in tasks] == ["SUCCESS", "FAILURE"]


# What cannot be


BAD = [
    "..", "../../etc/passwd", "%2e%2e", "a b", "a\r\nSet-Cookie: x=1", "a\nb", "é", "\u202e", "😀",
    "a'; DROP TABLE tasks;--", "<script>alert(1)</script>", "x" * 129, "x" * 30_000, "-rf", "\x00",
]  # fmt: skip


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: ascii(bad)[:24])
def test_bad_ids(pages: Site, bad: str) -> None:
    for path in (f"/task/{quote(bad, safe='')}/status/", f"/task/status/?id={quote(bad, safe='')}"):
        reply = pages.get(path)
        assert reply.status in (400, 404), (path, reply.status, reply.body)
        refused(reply.body, bad)
        assert reply.headers["Set-Cookie"] is None


def test_an_empty_id(pages: Site) -> None:
    for path in ("/task//status/", "/task/status/?id="):
        reply = pages.get(path)
        assert reply.status in (308, 400, 404)  # 308: Flask leads to ``status/``, which refuses it
        refused(reply.body, "")


def refused(body: bytes, bad: str) -> None:
    said = body.decode()
    assert "Traceback" not in said
    assert len(said) < 5_000
    if len(bad) > 3 and said.startswith("{"):
        assert bad not in said


def test_an_id_of_ten_megabytes(pages: Site, project: Project) -> None:
    """The server in front refuses it, or we do; either way the next request is answered."""
    connection = http.client.HTTPConnection(LOOPBACK, pages.port, timeout=60)
    try:
        connection.request("GET", f"/task/{'x' * 10_000_000}/status/")
        reply = connection.getresponse()
        assert reply.status in (400, 404, 414, 431)
        assert b"Traceback" not in reply.read()
    except (ConnectionError, http.client.HTTPException):
        pass  # closed while we were still talking
    finally:
        connection.close()
    assert pages.task(store(project, "SUCCESS", 1))["result"] == 1


def test_raw_line_ends_in_the_path(pages: Site, project: Project) -> None:
    with socket.create_connection((LOOPBACK, pages.port), timeout=60) as raw:
        raw.sendall(b"GET /task/a\r\nX-Injected: 1/status/ HTTP/1.1\r\nHost: x\r\n\r\n")
        answer = raw.recv(65536)
    assert b"200 OK" not in answer
    assert b"X-Injected" not in answer
    assert pages.task(store(project, "SUCCESS", 1))["result"] == 1


def test_results_that_cannot_be_shown(pages: Site, project: Project) -> None:
    large = store(project, "SUCCESS", "x" * 20_000_000)
    reply = pages.status(large)
    assert reply.status == 200
    assert len(reply.body) < 1_000
    assert "too large" in reply.json["task"]["omitted"]


# Who may see what


def test_authorize(framework: str, project: Project) -> None:
    mine, theirs = store(project, "SUCCESS", "mine"), store(project, "SUCCESS", "theirs")
    asked: list[str] = []

    def authorize(request: Any, task_id: str) -> bool:
        assert request is not None
        asked.append(task_id)
        return task_id == mine

    with site(framework, project.app, authorize=authorize) as pages:
        assert pages.task(mine)["result"] == "mine"
        reply = pages.status(theirs)
        assert reply.status == 403
        assert b"theirs" not in reply.body
        assert pages.many([mine, theirs]).status == 403
        asked.clear()
        assert pages.status("a+b!").status == 400
        assert asked == []  # nobody is asked about what cannot be an id


def test_an_authorize_that_fails_shows_nothing(framework: str, project: Project) -> None:
    def authorize(request: Any, task_id: str) -> bool:
        raise RuntimeError("cannot tell")

    with site(framework, project.app, authorize=authorize) as pages:
        reply = pages.status(store(project, "SUCCESS", "secret"))
        assert reply.status == 500
        assert b"secret" not in reply.body


# While the backend is down


@pytest.mark.parametrize("kind", ["refused", "silent"])
def test_the_result_backend_is_down(
    framework: str, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    with SilentServer() as silent:
        port = silent.port if kind == "silent" else closed_port()
        app = Celery("down", set_as_current=False)
        app.conf.result_backend = f"redis://{LOOPBACK}:{port}/0"
        with site(framework, app, timeout=None) as pages:
            waits = []
            for _ in range(8):
                began = time.monotonic()
                reply = pages.status("a")
                waits.append(time.monotonic() - began)
                assert reply.status == 503
                assert "ask again" in reply.json["error"]
                assert int(reply.headers["Retry-After"]) > 0
                assert "127.0.0.1" not in reply.body.decode()
            assert max(waits) < 10, waits  # Celery's own read takes 120 s
            assert pages.many(["a", "b"]).status == 503
    # Once for the outage, not once for each request.
    ours = [one for one in caplog.records if one.name == "jobtastic_ext"]
    assert len([one for one in ours if one.levelno >= logging.WARNING]) == 1


def test_an_app_without_results_is_told_in_the_log(framework: str, caplog: Any) -> None:
    app = Celery("none", set_as_current=False)
    app.conf.update(broker_url="memory://")
    with site(framework, app) as pages:
        for _ in range(3):
            assert pages.status("a").status == 503
    assert caplog.text.count("set result_backend") == 1


def test_an_outage_is_nothing_to_the_old_client(framework: str) -> None:
    """jquery-celery stops for good at its second 503; ``{"task": null}`` it skips."""
    with SilentServer() as silent:
        app = Celery("down", set_as_current=False)
        app.conf.result_backend = f"redis://{LOOPBACK}:{silent.port}/0"
        with site(framework, app, timeout=None, legacy=True, authorize=may_see_a) as pages:
            for _ in range(3):
                reply = pages.status("a")
                assert (reply.status, reply.json) == (200, {"task": None})
                assert "ETag" not in reply.headers
            assert pages.status("b").status == 403
            assert pages.many(["a", "a"]).status == 503


def may_see_a(request: object, task_id: str) -> bool:
    return task_id == "a"


# Whose words a page may show


class Refused(ValueError):
    """One whose words are for everybody."""

    jobtastic_public = True


class Late(Refused):
    """Its mark is inherited."""


def test_only_exceptions_that_are_named_speak_to_everybody(
    framework: str, project: Project
) -> None:
    secret = "could not connect to postgresql://app:hunter2@db"
    foreign = {"exc_type": "Odd", "exc_module": "nowhere.known", "exc_message": ["mine"]}
    named = [Flaky, "nowhere.known.Odd", "builtins.LookupError"]
    with site(framework, project.app, messages="public", public_exceptions=named) as pages:
        for error, words in [
            (Flaky("mine"), "mine"),
            (Refused("mine"), "mine"),
            (Late("mine"), "mine"),
            (KeyError("mine"), "'mine'"),  # a LookupError
        ]:
            task = pages.task(store(project, "FAILURE", error))
            assert (task["result"], "private" in task) == (words, False)
        for state in ("FAILURE", "RETRY", "REVOKED"):
            task_id = store(project, state, ValueError(secret))
            task = pages.task(task_id)
            assert (task["status"], task["private"]) == (state, True)
            assert task_id in task["result"]
            assert "exc" not in task
            assert b"hunter2" not in pages.status(task_id).body
        # What this process cannot make again goes by the name that it was stored with.
        for stored, private in [
            (foreign, None),
            ({**foreign, "exc_type": "Other"}, True),
            ({**foreign, "exc_type": "Refused", "exc_module": "nowhere"}, True),
            ({**foreign, "exc_module": None}, True),
            ("only words", True),
            (None, True),
        ]:
            task_id = uuid.uuid4().hex
            meta = {"status": "FAILURE", "result": stored, "traceback": "", "task_id": task_id}
            project.app.backend.set(f"celery-task-meta-{task_id}", json.dumps(meta))
            assert pages.task(task_id).get("private") is private, stored


@pytest.mark.parametrize(
    "options",
    [
        {"messages": "some"},
        {"public_exceptions": [ValueError]},
        {"messages": "public", "public_exceptions": "ValueError"},
        {"messages": "public", "public_exceptions": ["ValueError"]},
        {"messages": "public", "public_exceptions": [int]},
    ],
)
def test_options_of_messages_that_mean_nothing(
    framework: str, project: Project, options: dict[str, Any]
) -> None:
    def start() -> None:
        if framework == "django":  # when its URLs are loaded
            configure_django()
            from jobtastic_ext.web.django import view_of

            view_of(options)
        else:
            site(framework, project.app, **options).__enter__()

    with pytest.raises((ConfigurationError, ImproperlyConfigured), match=r"messages|public_excep"):
        start()
