"""The result backends that a status is read from: all kinds, and what they may cost in time."""

from __future__ import annotations

import logging
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path
from typing import Any

import pytest
import redis
from celery import Celery

from jobtastic_ext import JobtasticStep
from jobtastic_ext.errors import ConfigurationError, ResultsUnavailable
from jobtastic_ext.runtime import close_runtime
from jobtastic_ext.testing.server import EmbeddedServer
from jobtastic_ext.web import task_status
from tests.integration.conftest import Project
from tests.servers import SilentServer, closed_port, wait_until
from tests.web.sites import site
from tests.web.test_status import store


@pytest.mark.parametrize("kind", ["refused", "silent", "unreachable"])
def test_a_backend_that_is_down_answers_in_time(kind: str, caplog: Any) -> None:
    """Celery's own read takes 120 s on a Redis that accepts and stays silent."""
    app = Celery("down", set_as_current=False)
    with SilentServer(accepting=kind == "silent") as silent:
        port = closed_port() if kind == "refused" else silent.port
        app.conf.result_backend = f"redis://127.0.0.1:{port}/0"
        waits = []
        with caplog.at_level(logging.WARNING, logger="jobtastic_ext"):
            for _ in range(20):
                began = time.monotonic()
                with pytest.raises(ResultsUnavailable):
                    task_status(app, "a", timeout=0.5)
                waits.append(time.monotonic() - began)
    assert max(waits) < 10, waits
    assert sorted(waits)[10] < 0.5, waits  # most are refused at once, without a look
    assert caplog.text.count("does not answer") == 1


def test_a_silent_broker_holds_up_no_status(project: Project) -> None:
    """Only the place in the queue is asked of it."""
    with SilentServer() as silent:
        app = Celery("held", set_as_current=False)
        app.conf.update({**project.conf, "broker_url": silent.url()})
        app.steps["worker"].add(JobtasticStep)
        waits = []
        for _ in range(12):
            began = time.monotonic()
            found = task_status(app, str(uuid.uuid4()), timeout=20)
            assert found["task"]["status"] == "PENDING"
            waits.append(time.monotonic() - began)
        close_runtime(app)  # it asks whether the broker is back
    assert max(waits) < 10, waits
    assert sorted(waits)[6] < 0.5, waits


def test_a_backend_that_comes_back_is_found(project: Project, redis_server: Any) -> None:
    with EmbeddedServer() as server:
        app = Celery("back", set_as_current=False)
        app.conf.result_backend = server.url(0)
        app.backend.store_result("a", 1, "SUCCESS")
        assert task_status(app, "a", timeout=20)["task"]["result"] == 1
        server.kill()
        for _ in range(5):
            with pytest.raises(ResultsUnavailable):
                task_status(app, "a", timeout=0.5)
        server.restart()

        def is_back() -> bool:
            try:
                return task_status(app, "a")["task"]["status"] == "PENDING"
            except ResultsUnavailable:
                return False

        wait_until(is_back)


@pytest.mark.parametrize("backend", [None, "disabled://", "rpc://"])
def test_an_app_that_keeps_no_results(backend: str | None) -> None:
    app = Celery("none", set_as_current=False)
    app.conf.update(broker_url="memory://", result_backend=backend)
    with pytest.raises(ConfigurationError, match="result_backend"):
        task_status(app, "a")


@pytest.mark.parametrize("scheme", ["file", "db", "memory"])
def test_other_backends(scheme: str, tmp_path: Any) -> None:
    urls = {"file": f"file://{tmp_path}", "memory": "cache+memory://", "db": None}
    if scheme == "db":
        pytest.importorskip("sqlalchemy")
        urls["db"] = f"db+sqlite:///{tmp_path}/results.sqlite3"
    app = Celery("others", set_as_current=False)
    app.conf.update(broker_url="memory://", result_backend=urls[scheme])
    ids = [str(uuid.uuid4()) for _ in range(3)]
    app.backend.store_result(ids[0], [1], "SUCCESS")
    app.backend.store_result(ids[1], ValueError("no"), "FAILURE")
    assert task_status(app, ids[0])["task"]["result"] == [1]
    assert task_status(app, ids[1])["task"]["exc"] == "ValueError"
    assert task_status(app, ids[2])["task"]["status"] == "PENDING"


def test_a_redis_behind_a_unix_socket() -> None:
    path = Path(tempfile.mkdtemp(prefix="jobtastic-test-"), "redis.sock")  # a short path
    try:
        with EmbeddedServer(config=f"unixsocket {path}"):
            app = Celery("unix", set_as_current=False)
            app.conf.result_backend = f"redis+socket://{path}"
            app.backend.store_result("a", 1, "SUCCESS")
            assert task_status(app, "a")["task"]["result"] == 1
            with site("asgi", app) as pages:
                assert b'"SUCCESS"' in pages.get("/task/a/events/").body
    finally:
        shutil.rmtree(path.parent)


def test_a_process_that_forks(project: Project, tmp_path: Any) -> None:
    """A server that loads the app and asks something before it forks its workers."""
    script = tmp_path / "forks.py"
    script.write_text(
        FORKS.format(url=project.conf["result_backend"], task=store(project, "SUCCESS", 7))
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=180)
    assert done.stdout.split() == ["7"] * 4, done.stderr


FORKS = """
import os
from celery import Celery
from jobtastic_ext.web import task_status

app = Celery("forks", backend="{url}")

def tell():  # at once, with the end of the line: others do as well
    os.write(1, b"%d\\n" % task_status(app, "{task}")["task"]["result"])

tell()
for _ in range(3):
    if not os.fork():
        tell()
        os._exit(0)
for _ in range(3):
    os.wait()
"""


def test_reads_of_the_backend(project: Project, redis_server: Any) -> None:
    """One command for a state, and nothing else, once the connection is there."""
    task_id = store(project, "SUCCESS", 1)
    task_status(project.app, task_id)
    client = redis.Redis.from_url(redis_server.url(1))
    with client.monitor() as monitor:
        task_status(project.app, task_id)
        client.get("the end")
        seen = []
        for command in monitor.listen():
            if "the end" in command["command"]:
                break
            if command["db"] == 1 and task_id in command["command"]:
                seen.append(command["command"].split()[0])
    client.close()
    assert seen == ["GETRANGE"]
