"""Server-sent events on a real uvicorn: one subscription for a process, whoever follows."""

from __future__ import annotations

import asyncio
import http.client
import json
import logging
import os
import signal
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import psutil
import pytest
import redis
from celery import Celery

from jobtastic_ext.testing.server import LOOPBACK, EmbeddedServer
from jobtastic_ext.web import hub as events
from jobtastic_ext.web import silent, status_token, subscription
from jobtastic_ext.web.asgi import status_app
from tests.integration.conftest import Project, wait_until
from tests.servers import TIMEOUT, SilentServer
from tests.web.sites import SECRET, Site, mounted, serve_asgi, site


class Stream:
    """An open stream of events, read by a thread."""

    def __init__(self, pages: Site, task_id: str, query: str = "") -> None:
        self.connection = http.client.HTTPConnection(LOOPBACK, pages.port, timeout=60)
        self.connection.request("GET", f"/task/{task_id}/events/{query}")
        self.response = self.connection.getresponse()
        self.tasks: list[dict[str, Any]] = []
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()

    def _read(self) -> None:
        try:
            for line in self.response:
                if line.startswith(b"data: "):
                    self.tasks.append(json.loads(line[6:])["task"])
        except (OSError, ValueError, AttributeError, http.client.HTTPException):
            pass  # closed from this side
        finally:
            self.ended.set()

    def states(self) -> list[str]:
        return [task["status"] for task in self.tasks]

    def close(self) -> None:
        if self.connection.sock is not None:
            self.connection.sock.shutdown(2)
        self.connection.close()
        self.thread.join(10)

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@pytest.fixture(scope="module")
def pages(project: Project) -> Iterator[Site]:
    with site("asgi", project.app) as served:
        yield served


@pytest.fixture(scope="module")
def results(redis_server: Any) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_server.url(1)) as client:
        yield client


@pytest.fixture
def only_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is heard comes, however long it takes; nothing is read to be sure."""
    monkeypatch.setattr(events, "CHECK", 1_000.0)


def channels(results: redis.Redis, *ids: str) -> list[int]:
    """How many connections are subscribed to each task."""
    names = [f"celery-task-meta-{one}" for one in ids]
    return [count for _, count in results.pubsub_numsub(*names)]


def tell(project: Project, task_id: str, percent: float) -> None:
    report = {"progress_percent": percent, "time_remaining": 1.0}
    project.app.backend.store_result(task_id, report, "PROGRESS")


def test_a_task_from_its_call_to_its_end(
    only_heard: None, pages: Site, project: Project, unique: str
) -> None:
    result = project.task("progress").delay(1_000, pause=0.1, gate=unique)
    with Stream(pages, result.id) as stream:
        assert stream.response.status == 200
        assert stream.response.headers["Content-Type"] == "text/event-stream"
        assert stream.response.headers["Cache-Control"] == "no-store"

        def percents() -> list[float]:
            told = [task["result"] for task in stream.tasks if task["status"] == "PROGRESS"]
            return [each["progress_percent"] for each in told]

        wait_until(lambda: len(percents()) >= 3)
        project.notes.open(unique)
        assert stream.ended.wait(TIMEOUT)
        assert percents() == sorted(percents())
        assert stream.tasks[-1]["status"] == "SUCCESS"
        assert stream.tasks[-1]["result"] == 1_000
        assert stream.tasks[-1] == pages.task(result.id)


def test_a_task_that_has_ended_is_told_at_once(pages: Site, project: Project) -> None:
    task_id = str(uuid.uuid4())
    project.app.backend.store_result(task_id, ValueError("no"), "FAILURE")
    with Stream(pages, task_id) as stream:
        assert stream.ended.wait(TIMEOUT)
        assert stream.states() == ["FAILURE"]


def test_many_followers_share_one_subscription(
    pages: Site, project: Project, results: redis.Redis
) -> None:
    ids = [str(uuid.uuid4()) for _ in range(3)]
    before = len(results.client_list(_type="pubsub"))
    streams = [Stream(pages, task_id) for task_id in ids for _ in range(15)]
    try:
        wait_until(lambda: channels(results, *ids) == [1, 1, 1])
        assert len(results.client_list(_type="pubsub")) <= before + 1
        for n in range(1, 6):
            for task_id in ids:
                tell(project, task_id, 10 * n)
        for task_id in ids:
            project.app.backend.store_result(task_id, task_id, "SUCCESS")
        for stream in streams:
            assert stream.ended.wait(TIMEOUT)
            assert stream.states()[-1] == "SUCCESS"
            assert stream.tasks[-1]["result"] == stream.tasks[-1]["id"]
            percents = [t["result"]["progress_percent"] for t in stream.tasks[1:-1]]
            assert percents == sorted(percents)
    finally:
        for stream in streams:
            stream.close()
    wait_until(lambda: channels(results, *ids) == [0, 0, 0])


def test_nothing_is_left_when_the_clients_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subscription, "LINGER", 0.5)
    app = Celery("alone", set_as_current=False)
    application = status_app(app, timeout=20)
    with ExitStack() as stack:
        server = stack.enter_context(EmbeddedServer())
        results = stack.enter_context(redis.Redis.from_url(server.url(0)))
        app.conf.result_backend = server.url(0)
        pages = stack.enter_context(serve_asgi(mounted("/task", application)))
        own = psutil.Process()
        with Stream(pages, "warm-up"):
            pass
        wait_until(lambda: not results.client_list(_type="pubsub"))
        sockets, threads = own.num_fds(), threading.active_count()
        ids = [str(uuid.uuid4()) for _ in range(20)]
        streams = [Stream(pages, task_id) for task_id in ids]
        wait_until(lambda: channels(results, *ids) == [1] * 20)
        (hub,) = application._hubs.values()
        assert hub.followers == 20
        for stream in streams:
            stream.close()  # without a word, as a browser does
        wait_until(lambda: hub.followers == 0)
        assert hub._channels == {}
        wait_until(lambda: not results.client_list(_type="pubsub"))
        wait_until(lambda: own.num_fds() <= sockets + 2, why="sockets are left open")
        wait_until(lambda: threading.active_count() <= threads + 4, why="threads are left")
        # And the next one is served.
        with Stream(pages, ids[0]) as stream:
            wait_until(lambda: stream.states() == ["PENDING"])
            app.backend.store_result(ids[0], 1, "SUCCESS")
            assert stream.ended.wait(TIMEOUT)


def test_a_subscription_that_is_cut_is_made_again(
    only_heard: None, pages: Site, project: Project, results: redis.Redis
) -> None:
    task_id = str(uuid.uuid4())
    with Stream(pages, task_id) as stream:
        wait_until(lambda: channels(results, task_id) == [1])
        results.client_kill_filter(_type="pubsub")
        tell(project, task_id, 50)  # may be missed, and is read then
        wait_until(lambda: stream.states()[-1:] == ["PROGRESS"])
        wait_until(lambda: channels(results, task_id) == [1])
        project.app.backend.store_result(task_id, 1, "SUCCESS")
        assert stream.ended.wait(TIMEOUT)
        assert stream.states()[-1] == "SUCCESS"


def test_a_silent_connection_is_given_up(
    only_heard: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A peer that is gone without a word: nothing would ever be heard on it again."""
    monkeypatch.setattr(subscription, "QUIET", 0.5)
    monkeypatch.setattr(subscription, "DEAD", 3.0)
    monkeypatch.setattr(events, "UNCONFIRMED", 1000)  # the pause is long enough to end the stream
    app = Celery("silent", set_as_current=False)
    with EmbeddedServer() as server, redis.Redis.from_url(server.url(0)) as results:
        app.conf.result_backend = server.url(0)
        with site("asgi", app) as pages, Stream(pages, "a") as stream:
            wait_until(lambda: channels(results, "a") == [1])
            (before,) = results.client_list(_type="pubsub")
            time.sleep(4)
            (still,) = results.client_list(_type="pubsub")
            assert still["id"] == before["id"]  # it answers when it is asked
            os.kill(server.pid, signal.SIGSTOP)
            with caplog.at_level(logging.INFO, subscription.logger.name):
                wait_until(lambda: "nothing heard for" in caplog.text)
            os.kill(server.pid, signal.SIGCONT)
            wait_until(
                lambda: [
                    one
                    for one in results.client_list(_type="pubsub")
                    if int(one["id"]) > int(before["id"])
                ]
            )
            wait_until(lambda: channels(results, "a") == [1])
            app.backend.store_result("a", 1, "SUCCESS")
            assert stream.ended.wait(TIMEOUT)
            assert stream.states() == ["PENDING", "SUCCESS"]


def test_a_server_that_shuts_down_with_open_streams(project: Project) -> None:
    """With uvicorn's `timeout_graceful_shutdown`, which is 2 s here."""
    with site("asgi", project.app) as pages:
        stream = Stream(pages, "open")
        wait_until(lambda: stream.states() == ["PENDING"])
        began = time.monotonic()
    assert time.monotonic() - began < 19
    assert stream.ended.wait(TIMEOUT)
    stream.close()


def test_a_large_result_is_not_sent(pages: Site, project: Project) -> None:
    task_id = str(uuid.uuid4())
    with Stream(pages, task_id) as stream:
        wait_until(lambda: stream.states() == ["PENDING"])
        project.app.backend.store_result(task_id, "x" * 20_000_000, "SUCCESS")
        assert stream.ended.wait(TIMEOUT)
        assert "too large" in stream.tasks[-1]["omitted"]


def test_what_all_together_are_too_much_each_is_sent(project: Project) -> None:
    """Streams that are opened at once are read at once; the size of one is that of no other."""
    ids = [str(uuid.uuid4()) for _ in range(30)]
    for n, task_id in enumerate(ids):
        project.app.backend.store_result(task_id, "x" * (90_000 if n else 900_000), "SUCCESS")
    served = status_app(project.app, max_result=100_000)

    async def read() -> dict[str, events.News]:
        return served.hub._news(ids)

    found = asyncio.run(read())
    omitted = [one for one in ids if "omitted" in json.loads(found[one].body)["task"]]
    assert omitted == ids[:1]


def test_where_nothing_is_published_tasks_are_read(tmp_path: Any) -> None:
    app = Celery("files", set_as_current=False)
    app.conf.update(broker_url="memory://", result_backend=f"file://{tmp_path}")
    with site("asgi", app) as pages, Stream(pages, "a") as one, Stream(pages, "b") as other:
        wait_until(lambda: one.states() == other.states() == ["PENDING"])
        app.backend.store_result("a", {"progress_percent": 1}, "PROGRESS")
        wait_until(lambda: one.states()[-1:] == ["PROGRESS"])
        app.backend.store_result("a", 1, "SUCCESS")
        app.backend.store_result("b", 2, "SUCCESS")
        assert one.ended.wait(TIMEOUT)
        assert other.ended.wait(TIMEOUT)
        assert (one.tasks[-1]["result"], other.tasks[-1]["result"]) == (1, 2)


def test_what_is_not_confirmed_is_looked_at_again_soon(
    project: Project, pages: Site, results: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though nothing is heard of it: its worker is cut off from what publishes."""
    monkeypatch.setattr(events, "CHECK", 0.5)
    monkeypatch.setattr(silent, "ROOM", -5.0)
    task_id = str(uuid.uuid4())
    key = f"celery-task-meta-{task_id}"
    report = {"progress_percent": 5.0, "total": 9, "elapsed": 1.5, "begun": 1_700_000_000}
    project.app.backend.store_result(task_id, report, "PROGRESS")
    with Stream(pages, task_id) as stream:
        wait_until(lambda: stream.tasks and "unconfirmed" in stream.tasks[-1])
        monkeypatch.setattr(events, "CHECK", 1_000.0)
        time.sleep(1)  # the look that was due
        said = results.get(key)
        results.set(key, said.replace(b'"elapsed": 1.5', b'"elapsed": 2.5'))  # not published
        wait_until(lambda: stream.tasks[-1]["result"]["elapsed"] == 2.5)
    assert "unconfirmed" not in stream.tasks[-1]


def test_a_run_that_is_lost_ends_the_stream(
    pages: Site, project: Project, monkeypatch: Any
) -> None:
    from tests.web.test_status import report_of, running

    monkeypatch.setattr(events, "CHECK", 0.5)
    task_id = str(uuid.uuid4())
    key, _ = running(project, task_id, 1500)
    report_of(project, task_id, key)
    with Stream(pages, task_id) as stream:
        wait_until(lambda: stream.states() == ["PROGRESS"])
        assert stream.ended.wait(TIMEOUT)
        assert stream.states()[-1] == "FAILURE"
        assert stream.tasks[-1]["lost"] is True


# What is refused


def test_refused_streams(project: Project) -> None:
    task_id = str(uuid.uuid4())
    with site("asgi", project.app, signed=True) as pages:
        assert pages.get(f"/task/{task_id}/events/").status == 403
        token = status_token(task_id, secret=SECRET)
        with Stream(pages, task_id, f"?token={token}") as stream:
            assert stream.response.status == 200
        assert pages.get("/task/a%20b/events/").status == 400
        assert pages.get("/task/events/").status == 404
        assert pages.get(f"/task/{task_id}/events/", method="POST").status == 405
        assert pages.get("/task/").status == 404


def test_more_streams_than_allowed(project: Project) -> None:
    few = site("asgi", project.app, max_streams=2)
    with few as pages, Stream(pages, "a"), Stream(pages, "b"):
        reply = pages.get("/task/c/events/")
        assert reply.status == 503
        assert int(reply.headers["Retry-After"]) > 0
        assert pages.status("c").status == 200


async def may_see_a(scope: Any, task_id: str) -> bool:
    return task_id == "a"


def test_an_async_authorize(project: Project) -> None:
    with site("asgi", project.app, authorize=may_see_a) as pages:
        assert pages.status("a").status == 200
        assert pages.status("b").status == 403
        assert pages.get("/task/b/events/").status == 403


def test_the_backend_is_down_before_and_during_a_stream() -> None:
    app = Celery("down", set_as_current=False)
    with SilentServer() as silent:
        app.conf.result_backend = f"redis://{LOOPBACK}:{silent.port}/0"
        with site("asgi", app, timeout=None) as pages:
            began = time.monotonic()
            assert pages.get("/task/a/events/").status == 503
            assert time.monotonic() - began < 20  # Celery's own read takes 120 s
    app = Celery("goes", set_as_current=False)
    with EmbeddedServer() as server:
        app.conf.result_backend = server.url(0)
        with site("asgi", app, timeout=None) as pages:
            with Stream(pages, "a") as stream:
                wait_until(lambda: stream.states() == ["PENDING"])
                server.kill()
                # What was told is not confirmed any more: the page has to ask, and finds it out.
                assert stream.ended.wait(TIMEOUT)
                assert stream.states() == ["PENDING"]
            assert pages.status("a").status == 503
            server.restart()
            app.backend.store_result("a", 1, "SUCCESS")
            wait_until(lambda: pages.status("a").status == 200)
            assert pages.task("a")["status"] == "SUCCESS"


def test_a_stream_ends_with_its_age(project: Project, monkeypatch: Any) -> None:
    """So that a server that waits for its connections can shut down; clients come back."""
    from jobtastic_ext.web import asgi

    monkeypatch.setattr(asgi, "AGE", 1.0)
    monkeypatch.setattr(asgi, "COMMENT", 0.2)
    with site("asgi", project.app) as pages, Stream(pages, "old") as stream:
        assert stream.ended.wait(TIMEOUT)
        assert stream.states() == ["PENDING"]


# What one client, one value or one thread can do to the others


def test_a_stream_that_is_closed_costs_nothing_more(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Redis confirms that nothing is subscribed to any more: that has to be read, too."""
    waits = []
    wait = subscription.Subscription._wait

    def counted(self: Any, *arguments: Any) -> None:
        waits.append(1)
        wait(self, *arguments)

    monkeypatch.setattr(subscription.Subscription, "_wait", counted)
    application = status_app(project.app, timeout=20)
    with serve_asgi(mounted("/task", application)) as pages:
        with Stream(pages, uuid.uuid4().hex) as stream:
            wait_until(lambda: stream.states() == ["PENDING"])
            wait_until(lambda: waits)
        (hub,) = application._hubs.values()
        wait_until(lambda: hub.followers == 0)
        before = len(waits)
        time.sleep(1)
        assert len(waits) - before < 50  # it was some 20,000


STREAMS = int(os.environ.get("JOBTASTIC_TEST_STREAMS", "200"))


def test_many_streams_opened_and_closed(project: Project) -> None:
    """What is open and what runs afterwards is what was before."""
    application = status_app(project.app, timeout=20)
    own = psutil.Process()
    with serve_asgi(mounted("/task", application)) as pages:

        def open_and_close(count: int) -> None:
            for _ in range(count):
                with Stream(pages, uuid.uuid4().hex) as stream:
                    wait_until(lambda: stream.states() == ["PENDING"])

        open_and_close(10)
        (hub,) = application._hubs.values()
        wait_until(lambda: hub.followers == 0)
        descriptors, threads = own.num_fds(), threading.active_count()
        open_and_close(STREAMS)
        wait_until(lambda: hub.followers == 0)
        assert hub._channels == {}
        wait_until(lambda: own.num_fds() <= descriptors + 3, why="descriptors are left open")
        wait_until(lambda: threading.active_count() <= threads + 3, why="threads are left")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_thread_that_ends_is_noticed_and_told(
    only_heard: None,
    monkeypatch: pytest.MonkeyPatch,
    project: Project,
    caplog: pytest.LogCaptureFixture,
) -> None:
    listen, endings = subscription.Subscription._listen, [SystemExit, SystemExit]

    def ends(self: Any, ear: Any) -> None:
        if endings:
            raise endings.pop()
        listen(self, ear)

    monkeypatch.setattr(subscription.Subscription, "_listen", ends)
    app = Celery("ends", set_as_current=False)
    app.conf.update(project.conf)
    with site("asgi", app) as pages, Stream(pages, uuid.uuid4().hex) as stream:
        wait_until(lambda: stream.states() == ["PENDING"])
        task_id = stream.tasks[0]["id"]
        app.backend.store_result(task_id, {"progress_percent": 1}, "PROGRESS")
        # Read, a second later at most, while nothing is heard.
        wait_until(lambda: stream.states()[-1:] == ["PROGRESS"])
        wait_until(lambda: not endings)
        app.backend.store_result(task_id, 1, "SUCCESS")
        assert stream.ended.wait(TIMEOUT)
    assert "has ended" in caplog.text


def test_the_one_who_reads_goes_on_after_an_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any, caplog: pytest.LogCaptureFixture
) -> None:

    news_of, troubles = events.news_of, [ValueError("odd")]  # a second one would end the stream

    def odd(task: Any) -> Any:
        if task["status"] == "PROGRESS" and troubles:
            raise troubles.pop()
        return news_of(task)

    monkeypatch.setattr(events, "news_of", odd)
    app = Celery("files", set_as_current=False)
    app.conf.update(broker_url="memory://", result_backend=f"file://{tmp_path}")
    with site("asgi", app) as pages, Stream(pages, "a") as stream:
        wait_until(lambda: stream.states() == ["PENDING"])
        app.backend.store_result("a", {"progress_percent": 1}, "PROGRESS")
        wait_until(lambda: stream.states()[-1:] == ["PROGRESS"])
        assert not troubles


def test_a_client_that_never_reads_holds_no_stream_for_ever(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    from jobtastic_ext.web import asgi

    monkeypatch.setattr(asgi, "AGE", 0.5)
    monkeypatch.setattr(asgi, "REST", 0.5)
    task_id = str(uuid.uuid4())
    project.app.backend.store_result(task_id, "x" * 4_900_000, "SUCCESS")
    joined: list[str] = []
    join = events.Hub.join
    monkeypatch.setattr(events.Hub, "join", lambda hub, one: joined.append(one) or join(hub, one))
    application = status_app(project.app, timeout=20)
    with serve_asgi(mounted("/task", application)) as pages, ExitStack() as stack:
        for _ in range(5):
            client = stack.enter_context(socket.socket())
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect((LOOPBACK, pages.port))
            client.sendall(f"GET /task/{task_id}/events/ HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        wait_until(lambda: len(joined) == 5)
        (hub,) = application._hubs.values()
        wait_until(lambda: hub.followers == 0)
