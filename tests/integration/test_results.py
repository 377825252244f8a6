"""The result backend: whose result is read, what an outage is, and what it may cost."""

from __future__ import annotations

import gc
import json
import logging
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
import uuid
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import redis
from celery import Celery, group
from celery.app.task import Context, Task
from celery.exceptions import ImproperlyConfigured
from celery.result import AsyncResult

from jobtastic_ext import progress_of
from jobtastic_ext.claims.records import Begin, Finish
from jobtastic_ext.errors import ResultsUnavailable
from jobtastic_ext.results.backend import Backend
from jobtastic_ext.results.reader import reads_of
from jobtastic_ext.runtime import close_runtime, runtime_of
from jobtastic_ext.testing.server import EmbeddedServer
from jobtastic_ext.web import task_status
from jobtastic_ext.web.status import statuses
from jobtastic_ext.web.stored import Limits
from tests.integration.conftest import Project, wait_until
from tests.memcached import Memcached
from tests.servers import SilentServer, missing

BOUNDED = True


@pytest.fixture(scope="module")
def memcached() -> Iterator[Memcached]:
    with Memcached() as server:
        app = Celery("probe", set_as_current=False, backend=server.url())
        try:
            app.backend.get("a")
            app.backend.client.close()
        except ImproperlyConfigured as error:
            missing(str(error), module="pymemcache")
        yield server


def leave_result(app: Celery, x: Any) -> str:
    """Leave the claim and the result of a call that has ended, as a worker does."""
    task, runtime = app.tasks["reports.cached"], runtime_of(app)
    assert runtime is not None
    plan = runtime.plan(task)
    assert plan is not None
    result = task.delay(x)
    key = plan.key((x,), {})
    begun = Begin(task_id=result.id, run="test.1", lease=30_000, herd=60_000)
    runtime.store.apply(key, begun)
    app.backend.store_result(result.id, {"x": x}, "SUCCESS")
    runtime.store.apply(
        key,
        Finish(task_id=result.id, run="test.1", gen="", fresh=600_000, stale=0, keep=1, hold=1),
    )
    return str(result.id)


def test_many_threads_read_each_its_own_result_from_memcached(
    start_project: Callable[..., Project], memcached: Memcached
) -> None:
    """Its client is not for threads; Celery has a backend object for each, and so is it here."""
    project = start_project(result_backend=memcached.url())
    ids = {x: leave_result(project.app, x) for x in range(20)}
    wrong, cached, calls = [], [], 16 * 60

    def call(n: int) -> None:
        pick = random.Random(n)
        for _ in range(calls // 16):
            x = pick.randrange(20)
            result = project.task("cached").delay(x)
            if result.id != ids[x]:
                continue
            cached.append(x)
            if result.result != {"x": x}:
                wrong.append((x, result.result))

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(call, range(16)))
    project.app.backend.client.close()
    assert not wrong
    assert len(cached) >= 0.98 * calls


def test_a_worker_with_threads_reads_each_its_own_result_from_memcached(
    start_project: Callable[..., Project], memcached: Memcached, unique: str
) -> None:
    """The members of a group are published whatever is known; the worker reuses their values."""
    project = start_project(result_backend=memcached.url())
    with project.worker(pool="threads", concurrency=8):
        task, names = project.task("cached"), [f"{unique}-{n}" for n in range(10)]
        first = group(task.s(name, delay=0) for name in names).apply_async()
        assert [one["x"] for one in first.get(timeout=60)] == names
        again = group(task.s(name, delay=0) for _ in range(6) for name in names).apply_async()
        assert [one["x"] for one in again.get(timeout=60)] == names * 6
        assert sum(project.runs("cached", name) for name in names) == len(names)
    project.app.backend.client.close()


# What is an outage


class Nowhere:
    """A backend that a result object needs, and that nobody asks."""

    def remove_pending_result(self, result: Any) -> None: ...


@pytest.fixture
def limited(start_project: Callable[..., Project]) -> Iterator[Project]:
    """A project whose result backend's user may run no scripts."""
    with EmbeddedServer() as server:
        with redis.Redis(port=server.port) as client:
            client.execute_command(
                "ACL", "SETUSER", "plain", "on", ">word", "~*", "&*", "+@all", "-@scripting"
            )
        url = f"redis://plain:word@127.0.0.1:{server.port}/1"
        yield start_project(result_backend=url)


def test_a_refused_progress_write_is_no_outage_of_results(
    limited: Project, unique: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Bare Celery shows progress to such a user, and so do we; cached calls are served."""
    task_id = leave_result(limited.app, unique)
    runtime, task = runtime_of(limited.app), limited.task("cached")
    assert runtime is not None
    running = str(uuid.uuid4())
    send = runtime.reporter.writer.sender(task, Context(id=running, args=(), kwargs={}))
    assert send is not None
    with caplog.at_level(logging.WARNING, logger="jobtastic_ext"):
        for percent in (1, 2, 3):
            assert send({"progress_percent": percent})
            assert task.delay(unique).id == task_id
    assert limited.app.AsyncResult(running).state == "PROGRESS"
    assert limited.app.AsyncResult(running).info == {"progress_percent": 3}
    assert caplog.text.count("EVALSHA") == 1
    assert not runtime.results.breaker.is_open


def test_the_expiry_of_a_row_in_a_database_is_left_alone(tmp_path: Any) -> None:
    """Celery's database backend keeps a timedelta, and deletes rows by a beat."""
    pytest.importorskip("sqlalchemy")
    app = Celery("rows", set_as_current=False, backend=f"db+sqlite:///{tmp_path}/r.sqlite3")
    results = Backend(app, 5.0)
    results.store("a", 1, "SUCCESS")
    results.keep("a", 1e9)
    outcome = results.outcome("a")
    assert outcome is not None
    assert outcome.value == 1
    results.close()


def test_a_silent_database_costs_a_bounded_time_and_no_more_threads() -> None:
    """Celery's constructor of a database backend connects, and never gives up."""
    pytest.importorskip("sqlalchemy")
    pytest.importorskip("psycopg2")

    def resting() -> set[threading.Thread]:
        return {one for one in threading.enumerate() if one.name == "jobtastic-pool"}

    others = resting()  # of the tests before
    with SilentServer() as silent:
        app = Celery("silent", set_as_current=False)
        app.conf.result_backend = f"db+postgresql+psycopg2://u:p@127.0.0.1:{silent.port}/db"
        results = Backend(app, 0.2)
        waits = []
        for n in range(30):
            began = time.monotonic()
            with pytest.raises(ResultsUnavailable):
                results.outcome(str(n))
            waits.append(time.monotonic() - began)
            if n % 10 == 9:
                results.breaker.succeeded()  # as if it had been back, so that it is asked anew
        threads = resting() - others
        assert sorted(waits)[15] < 0.2, waits
        assert max(waits) < 10, waits
        assert len(threads) <= 8 + 8  # pages' have a pool of their own
        whole = app.AsyncResult("a", backend=Nowhere())
        began = time.monotonic()
        with pytest.raises(ResultsUnavailable):
            progress_of(whole)
        assert time.monotonic() - began < 10
        results.close()
        reads_of(app).close()
    wait_until(lambda: not any(one.is_alive() for one in threads))
    gc.collect()  # what was never connected


# What is large


def output_of(client: redis.Redis) -> int:
    return int(client.info("stats")["total_net_output_bytes"])


def test_large_results_are_bounded_in_bytes_and_open_nothing(project: Project) -> None:
    app, limits = project.app, Limits(max_result=200_000, timeout=20.0)
    ids = [str(uuid.uuid4()) for _ in range(100)]
    for task_id in ids:
        app.backend.store_result(task_id, "x" * 190_000, "SUCCESS")
    client = redis.Redis.from_url(project.conf["result_backend"])
    before = output_of(client)
    for _ in range(3):
        found = statuses(app, ids, limits)
        assert {one["status"] for one in found} == {"SUCCESS"}
        shown = [one for one in found if "omitted" not in one]
        assert 1 <= len(shown) <= 15
        assert all("too large" in one["omitted"] for one in found if one not in shown)
    assert output_of(client) - before < 3 * 100 * 65_536 + 3 * 4 * 700_000 + 1_000_000
    for task_id in ids:
        assert task_status(app, task_id)["task"]["result"] == "x" * 190_000
    client.delete(*[app.backend.get_key_for_task(one) for one in ids])
    client.close()


def test_of_a_huge_result_only_the_beginning_is_read(project: Project) -> None:
    app, task_id = project.app, str(uuid.uuid4())
    app.backend.store_result(task_id, "x" * 40_000_000, "SUCCESS")
    client = redis.Redis.from_url(project.conf["result_backend"])
    before = output_of(client)
    task = task_status(app, task_id)["task"]
    assert task["status"] == "SUCCESS"
    assert task["result"] is None
    assert "too large" in task["omitted"]
    assert output_of(client) - before < 200_000
    client.delete(app.backend.get_key_for_task(task_id))
    client.close()


#: The result of another task.
OTHER = b'{"status": "SUCCESS", "result": 1, "task_id": "another"}'


@pytest.mark.parametrize(
    "junk", [b"[]", OTHER, b'"SUCCESS"', b"{}", b'{"status": 7}', b"\xff\xfe", b"1"]
)
def test_a_value_of_the_wrong_shape_concerns_its_id_alone(project: Project, junk: bytes) -> None:
    app, bad, good = project.app, str(uuid.uuid4()), str(uuid.uuid4())
    app.backend.store_result(good, 1, "SUCCESS")
    app.backend.client.set(app.backend.get_key_for_task(bad), junk)
    found = statuses(app, [good, bad], Limits())
    assert found[0]["status"] == "SUCCESS"
    assert found[1]["exc"] == "ResultsUnavailable"


# What is put back


def test_every_thread_gets_its_backend_back_as_it_was(
    start_project: Callable[..., Project], unique: str
) -> None:
    project = start_project()
    ready, done, seen = threading.Barrier(3), threading.Event(), []

    def publish() -> None:
        project.task("cached").delay(unique)
        ready.wait(20)
        done.wait(20)
        seen.append("on_task_call" in project.app.backend.__dict__)

    threads = [threading.Thread(target=publish) for _ in range(2)]
    for thread in threads:
        thread.start()
    ready.wait(20)
    close_runtime(project.app)
    done.set()
    for thread in threads:
        thread.join(20)
    assert seen == [False, False]


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    """The URL of a PostgreSQL of the wheel `pgserver`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            import pgserver  # says where it keeps its lock
        except ImportError as error:
            missing(str(error), module="pgserver")
    # As root it runs as somebody else, to whom each start of pytest closes pytest's own folder.
    with tempfile.TemporaryDirectory(prefix="jobtastic-postgres-") as folder:
        server = pgserver.get_server(folder)
        yield server.get_uri()
        server.cleanup()


def test_django_results_open_few_sessions_and_outlive_a_restart(postgres: str) -> None:
    """Django closes at the end of a request; threads of our own have none, so they do when idle."""
    pytest.importorskip("django_celery_results")
    script = Path(__file__).with_name("django_results.py")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", f"tests.integration.{script.stem}", postgres],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout.splitlines()[-1])
    assert seen["rest"] == 0
    assert seen["sessions"] <= 8
    assert seen["most"] <= 8
    assert seen["polls"] == ["SUCCESS"]
    assert seen["progress"]


# Result objects


def test_callbacks_of_ended_tasks_are_called_under_gevent(project: Project, unique: str) -> None:
    """With Celery alone a greenlet hears of what was published before anybody asked."""
    pytest.importorskip("gevent")
    environ = {**os.environ, "JOBTASTIC_TEST_CONF": json.dumps(project.conf)}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "tests.integration.then_gevent", unique],
        env=environ,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.stdout.strip() == '["cached", "joined", "published"]', done.stderr


def test_a_result_that_was_forgotten_is_a_miss_and_the_page_says_so(
    project: Project, unique: str
) -> None:
    """To Celery it is PENDING, as ever; who shares it would look at that for ever."""
    task = project.task("cached")
    mine, theirs = task.delay(unique, delay=0), task.delay(unique, delay=0)
    assert mine.get(timeout=30)["x"] == unique
    assert theirs.id == mine.id
    wait_until(lambda: project.claim("cached", unique, delay=0).holder is None)
    mine.forget()
    assert project.app.AsyncResult(theirs.id).state == "PENDING"
    assert project.app.AsyncResult(theirs.id).result is None
    page = task_status(project.app, theirs.id)["task"]
    assert page["gone"]
    assert page["status"] == "REVOKED"
    anew = task.delay(unique, delay=0)
    assert anew.id != mine.id
    assert anew.get(timeout=30)["x"] == unique
    key = project.app.backend.get_key_for_task(mine.id)
    assert 0 < project.app.backend.client.ttl(key) <= 3600


def test_the_results_of_an_app_without_the_step_are_celery_s() -> None:
    bare = Celery("bare", set_as_current=False, broker="memory://", backend="cache+memory://")

    @bare.task(name="without.step", shared=False)
    def task() -> None: ...

    result = task.AsyncResult("a")
    assert type(result).__mro__[1] is AsyncResult
    assert not hasattr(result, "jobtastic_task")
    assert Task.AsyncResult.__module__ == "celery.app.task"


def test_the_results_of_an_app_with_the_step_are_pickled(project: Project) -> None:
    result = project.task("cached").AsyncResult("a")
    name, arguments = result.__reduce__()[1]
    assert getattr(project.app, name)(*arguments) == result
    assert result.jobtastic_task == "reports.cached"
