"""A store on the server of the results answers with what it sees there: one round trip, not two.

Guards how Celery's Redis backend keeps a result: a string under `get_key_for_task`, in JSON with
the state first, or as its serializer has it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest
import redis
from celery import Celery

from jobtastic_ext import JobtasticStep
from jobtastic_ext.claims.records import Begin, ClaimCall, Finish
from jobtastic_ext.claims.store import ResultPlace
from jobtastic_ext.results.backend import Backend
from jobtastic_ext.runtime import close_runtime, runtime_of
from jobtastic_ext.stores.redis import RedisStore
from jobtastic_ext.testing.server import EmbeddedServer
from tests.stores.contract import JOINED, PATIENCE

numbers = itertools.count()

SERIALIZERS = ("json", "pickle", "yaml")

Open = Callable[..., RedisStore]


@pytest.fixture
def app(redis_server: EmbeddedServer) -> Iterator[Celery]:
    made = Celery("sight", set_as_current=False)
    made.conf.update(
        broker_url=redis_server.url(8),
        result_backend=redis_server.url(9),
        accept_content=SERIALIZERS,
        result_accept_content=SERIALIZERS,
    )
    yield made
    made.backend.client.connection_pool.disconnect()


@pytest.fixture
def results(app: Celery) -> Iterator[Backend]:
    with closing(Backend(app, PATIENCE)) as made:
        yield made


@pytest.fixture
def store(redis_server: EmbeddedServer, results: Backend) -> Iterator[RedisStore]:
    with closing(RedisStore(redis_server.url(10), timeout=PATIENCE, results=results.place)) as made:
        yield made


def claim(name: str, **more: Any) -> ClaimCall:
    return ClaimCall(task_id=name, gen="g", hold=60_000, **more)


def begun(name: str, **more: Any) -> Begin:
    return Begin(task_id=name, run="w.1", lease=30_000, herd=60_000, gen="g", **more)


def ended(name: str) -> Finish:
    return Finish(task_id=name, run="w.1", gen="g", fresh=60_000, stale=0, keep=1, hold=1)


def a_cached_call(app: Celery, store: RedisStore, value: Any, state: str = "SUCCESS") -> str:
    name = f"sight-{next(numbers)}"
    store.apply(name, claim(name))
    store.apply(name, begun(name))
    app.backend.store_result(name, value, state)
    store.apply(name, ended(name))
    return name


@pytest.mark.parametrize("extended", [False, True])
@pytest.mark.parametrize("serializer", SERIALIZERS)
def test_what_celery_has_stored_is_read_as_celery_reads_it(
    app: Celery, store: RedisStore, results: Backend, serializer: str, extended: bool
) -> None:
    app.conf.update(result_serializer=serializer, result_extended=extended)
    name = a_cached_call(app, store, {"rows": [1, "zwölf"]})
    answer = store.apply(name, claim("another"))
    assert (answer.word, answer.id) == ("cached", name)
    assert answer.seen
    seen, read = results.decoded(name, answer.seen), results.outcome(name)
    assert seen is not None
    assert read is not None
    assert seen.value == read.value == {"rows": [1, "zwölf"]}
    assert seen.meta == read.meta


def test_a_prefix_of_the_backend_counts(
    app: Celery, redis_server: EmbeddedServer, results: Backend, store: RedisStore
) -> None:
    app.conf.result_backend_transport_options = {"global_keyprefix": "theirs."}
    name = a_cached_call(app, store, 7)
    answer = store.apply(name, claim("another"))
    assert results.decoded(name, answer.seen or b"") == results.outcome(name)
    with redis.Redis.from_url(redis_server.url(9)) as client:
        key = app.backend.get_key_for_task(name)
        assert bytes(key).startswith(b"theirs.")  # what comes between has changed with Celery
        assert client.exists(key)


def test_what_is_not_final_or_gone_is_seen_as_nothing(app: Celery, store: RedisStore) -> None:
    for state in ("PROGRESS", "RETRY", "STARTED"):
        name = a_cached_call(app, store, {}, state)
        assert store.apply(name, claim("another")).seen == b""
    name = a_cached_call(app, store, 7)
    app.backend.forget(name)
    assert store.apply(name, claim("another")).seen == b""


def test_what_is_large_is_left_to_the_backend(app: Celery, store: RedisStore) -> None:
    name = a_cached_call(app, store, "x" * 70_000)
    answer = store.apply(name, claim("another"))
    assert (answer.word, answer.seen) == ("cached", None)


def test_a_pinned_call_is_published_and_looks_at_nothing(app: Celery, store: RedisStore) -> None:
    name = a_cached_call(app, store, 7)
    assert store.apply(name, claim("another", pinned=True)).seen is None


def test_a_user_who_may_not_read_results_sees_none(
    app: Celery, redis_server: EmbeddedServer, results: Backend
) -> None:
    with redis.Redis.from_url(redis_server.url(0)) as client:
        client.execute_command(
            "ACL", "SETUSER", "claims", "on", ">secret", "~sight-*", "+@all", "-select"
        )
    url = redis_server.url(0).replace("://", "://claims:secret@")
    with closing(RedisStore(url, timeout=PATIENCE, results=results.place)) as store:
        name = a_cached_call(app, store, 7)
        answer = store.apply(name, claim("another"))
        assert (answer.word, answer.seen) == ("cached", None)


@pytest.mark.parametrize(
    "there", [None, ResultPlace("redis://127.0.0.1:1", 9, b"celery-task-meta-")]
)
def test_results_elsewhere_are_not_looked_for(
    app: Celery, redis_server: EmbeddedServer, there: ResultPlace | None
) -> None:
    with closing(
        RedisStore(redis_server.url(10), timeout=PATIENCE, results=lambda: there)
    ) as store:
        name = a_cached_call(app, store, 7)
        assert store.apply(name, claim("another")).seen is None


@pytest.mark.parametrize(
    ("url", "server", "db"),
    [
        ("redis://h:1234/3", "redis://h:1234", 3),
        ("redis://h:1234/1?virtual_host=5", "redis://h:1234", 1),
        ("redis://", "redis://localhost:6379", 0),
        ("rediss://h:1234/3?ssl_cert_reqs=required", "rediss://h:1234", 3),
        ("redis+socket:///tmp/redis.sock?virtual_host=4", "unix:///tmp/redis.sock", 4),
        ("sentinel://h:1/3", None, 0),
        ("db+sqlite:///results.sqlite3", None, 0),
    ],
)
def test_where_results_are_is_what_the_backend_itself_makes_of_its_url(
    url: str, server: str | None, db: int
) -> None:
    app = Celery("sight-places", set_as_current=False, broker="memory://", backend=url)
    app.conf.result_backend_transport_options = {"master_name": "m"}
    with closing(Backend(app, 5)) as results:
        found = results.place()
    assert (found and found.server) == server
    assert found is None or found.db == db


def test_a_run_whose_end_is_seen_need_not_say_that_its_body_is_over(
    app: Celery, store: RedisStore
) -> None:
    name = f"sight-{next(numbers)}"
    store.apply(name, claim(name))
    assert store.apply(name, begun(name)).seen == b""
    assert store.apply(name, claim("another")).word == "unmarked"
    app.backend.store_result(name, 7, "SUCCESS")
    seen = store.apply(name, claim("another"))
    assert (seen.word, bool(seen.seen)) == ("unmarked", True)
    assert store.apply(name, claim("another", gone=name)).word == "claimed"


def test_an_id_that_has_had_a_result_says_when_its_body_is_over(
    app: Celery, store: RedisStore
) -> None:
    """Celery keeps the result of a task id that is used again until the new one is stored."""
    name = f"sight-{next(numbers)}"
    app.backend.store_result(name, 7, "SUCCESS")
    store.apply(name, claim(name))
    assert store.apply(name, begun(name)).seen is None
    assert store.apply(name, claim("another")).word in JOINED


def test_a_cached_call_is_one_command(redis_server: EmbeddedServer) -> None:
    app = Celery("sight-calls", set_as_current=False)
    app.conf.update(
        broker_url=redis_server.url(8),
        result_backend=redis_server.url(9),
        jobtastic_store=redis_server.url(10),
        jobtastic_store_timeout=PATIENCE,
        jobtastic_policy={"tasks": {"work": {"cache_duration": "1h"}}},
    )
    app.steps["worker"].add(JobtasticStep)

    @app.task(name="work", shared=False)
    def task(number: int) -> int:
        return number

    number = next(numbers)
    first = task.delay(number)
    runtime = runtime_of(app)
    assert runtime is not None
    plan = runtime.plan(task)
    assert plan is not None
    key = plan.key((number,), {})
    runtime.store.apply(key, Begin(task_id=first.id, run="w.1", lease=30_000, herd=60_000))
    app.backend.store_result(first.id, 7, "SUCCESS")
    runtime.store.apply(key, ended(first.id))
    url = redis_server.url(10)
    with redis.Redis.from_url(url) as client, redis.Redis.from_url(url).monitor() as monitor:
        client.ping()
        assert task.delay(number).result == 7
        client.echo("end")
        seen = list(itertools.takewhile(lambda one: "ECHO" not in one["command"], monitor.listen()))
    # Of this call: what is counted is brought there at times of its own.
    sent = [one["command"] for one in seen if one["client_type"] != "lua"]
    assert [one.split()[0] for one in sent if key in one] == ["EVALSHA"]
    assert not [one for one in sent if one.startswith("GET")]
    close_runtime(app)
    app.close()
