"""Hostile stored values: always an answer for that id, and none of it for its neighbours.

Celery's own ``AsyncResult(id).state`` raises for many of these, in the process that asks.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import msgspec
import pytest
from celery import Celery
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jobtastic_ext import JobtasticStep
from jobtastic_ext.runtime import close_runtime
from jobtastic_ext.web import task_status
from jobtastic_ext.web.status import payload_status
from jobtastic_ext.web.stored import KEY, Limits, Stored, encode, read_stored
from tests.servers import TIMEOUT, wait_until
from tests.thorough import examples
from tests.web.hostile import BYTES, METAS, meta, put
from tests.web.sites import FRAMEWORKS, Site, site
from tests.web.test_events import Stream

BACKENDS = ("redis", "db", "file")

VALUES: dict[str, Any] = {**METAS, **BYTES}


@pytest.fixture(scope="module", params=BACKENDS)
def app(
    request: pytest.FixtureRequest, redis_server: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Celery]:
    folder = tmp_path_factory.mktemp("hostile")
    if request.param == "db":
        pytest.importorskip("sqlalchemy")
    app = Celery(f"hostile-{request.param}", set_as_current=False)
    app.conf.update(
        broker_url="memory://",
        result_backend={
            "redis": redis_server.url(1),
            "db": f"db+sqlite:///{folder}/results.sqlite3",
            "file": f"file://{folder}",
        }[request.param],
        jobtastic_policy={"defaults": {}},
        jobtastic_store=f"sqlite:///{folder}/claims.sqlite3",
        jobtastic_key_prefix=uuid.uuid4().hex,
    )
    app.steps["worker"].add(JobtasticStep)
    yield app
    close_runtime(app)


@pytest.fixture(scope="module")
def stored(app: Celery) -> dict[str, str]:
    """The id of each hostile value that the backend can hold."""
    ids = {name: str(uuid.uuid4()) for name in VALUES}
    held = {name: task_id for name, task_id in ids.items() if put(app, task_id, VALUES[name])}
    assert len(held) >= 60
    return held


@pytest.fixture(scope="module")
def all_pages(app: Celery) -> Iterator[dict[str, Site]]:
    with ExitStack() as stack:
        yield {name: stack.enter_context(site(name, app)) for name in FRAMEWORKS}


def check(name: str, task: dict[str, Any], task_id: str) -> None:
    """What a page may rely on, whatever is stored."""
    assert task["id"] == task_id, name
    assert isinstance(task["status"], str), name
    assert 0 < len(task["status"]) <= 100, name
    key = task["result"].get("key") if isinstance(task["result"], dict) else None
    assert not (isinstance(key, str) and KEY.fullmatch(key)) or task["status"] == "SUCCESS", name
    assert 0 < task.get("retry_after", 1) <= 15, name
    if task["status"] in ("FAILURE", "REVOKED", "RETRY"):
        assert isinstance(task["result"], str), name
        assert len(task["result"]) <= 10_000, name
        assert isinstance(task["exc"], str), name
        assert len(task["exc"]) <= 200, name
    json.dumps(task, allow_nan=False).encode()


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_each_gets_an_answer(
    framework: str, stored: dict[str, str], all_pages: dict[str, Site]
) -> None:
    pages, trouble = all_pages[framework], []
    for name, task_id in stored.items():
        reply = pages.status(task_id)
        if reply.status != 200:
            trouble.append((name, reply.status))
            continue
        check(name, reply.json["task"], task_id)
    assert trouble == []


def test_a_batch_holds_the_others(
    app: Celery, stored: dict[str, str], all_pages: dict[str, Site]
) -> None:
    good = str(uuid.uuid4())
    app.backend.store_result(good, "good", "SUCCESS")
    for start in range(0, len(stored), 40):
        names = list(stored)[start : start + 40]
        for pages in all_pages.values():
            reply = pages.many([stored[name] for name in names] + [good])
            assert reply.status == 200
            *others, last = reply.json["tasks"]
            assert last.pop("ended") > 0
            assert last == {"id": good, "status": "SUCCESS", "result": "good"}
            for name, task in zip(names, others, strict=True):
                check(name, task, stored[name])


def test_events_go_on(app: Celery, all_pages: dict[str, Site]) -> None:
    """Those who follow one task hear of it, whatever is stored for others in the meantime."""
    pages, good = all_pages["asgi"], str(uuid.uuid4())
    odd = [
        "message with a lone surrogate", "type with a lone surrogate", "report of 400 digits",
        "key with a lone surrogate", "message that is a number", "value of 400 digits",
        "random", "100,000 deep", "state that is empty", "value that is a bad date",
    ]  # fmt: skip
    with ExitStack() as stack:
        stream = stack.enter_context(Stream(pages, good))
        others = {name: stack.enter_context(Stream(pages, uuid.uuid4().hex)) for name in odd}
        wait_until(lambda: stream.states() == ["PENDING"])
        wait_until(lambda: all(other.states() == ["PENDING"] for other in others.values()))
        for name, other in others.items():
            put(app, other.tasks[0]["id"], VALUES[name])
        wait_until(lambda: all(len(other.tasks) > 1 for other in others.values()))
        app.backend.store_result(good, {"progress_percent": 7}, "PROGRESS")
        wait_until(lambda: stream.states()[-1:] == ["PROGRESS"])
        app.backend.store_result(good, 1, "SUCCESS")
        assert stream.ended.wait(TIMEOUT)
        assert stream.states()[-1] == "SUCCESS"
        for name, other in others.items():
            check(name, other.tasks[-1], other.tasks[0]["id"])


def test_the_key_stays_inside(redis_server: Any) -> None:
    """By it a short argument can be guessed; also where the web process knows no policy."""
    app = Celery("no-policy", set_as_current=False)
    app.conf.update(broker_url="memory://", result_backend=redis_server.url(1))
    task_id = str(uuid.uuid4())
    report = {"progress_percent": 5, "key": f"jobtastic:reports.pin:{'0a' * 16}"}
    app.backend.store_result(task_id, report, "PROGRESS")
    assert task_status(app, task_id)["task"]["result"] == {"progress_percent": 5}


# Random ones

SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters())
    | st.sampled_from([10**400, -(10**400), "\udcff", "PROGRESS", "SUCCESS", "FAILURE", "RETRY"])
)  # fmt: skip
NAMES = st.sampled_from(
    ["status", "result", "traceback", "exc_type", "exc_message", "exc_module", "time_remaining",
     "elapsed", "progress_percent", "key", "message", "__type__", "__value__"]
) | st.text(st.characters(), max_size=5)  # fmt: skip
ANYTHING = st.recursive(
    SCALARS,
    lambda x: st.lists(x, max_size=5) | st.dictionaries(NAMES, x, max_size=5),
    max_leaves=20,
)
JSON_METAS = st.builds(
    meta,
    st.sampled_from(["PENDING", "PROGRESS", "SUCCESS", "FAILURE", "RETRY", "OWN"]) | ANYTHING,
    ANYTHING,
    traceback=ANYTHING,
)


@pytest.fixture(scope="module")
def decoder(tmp_path_factory: pytest.TempPathFactory) -> Celery:
    app = Celery("decoder", set_as_current=False)
    app.conf.update(broker_url="memory://", result_backend=f"file://{tmp_path_factory.mktemp('x')}")
    return app


def check_payload(app: Celery, payload: bytes) -> None:
    limits = Limits(tracebacks=True, max_result=10_000)
    found = read_stored(app.backend, "a", payload, limits)
    # Every field as its type says, and small enough.
    again = msgspec.convert(msgspec.to_builtins(found, builtin_types=(msgspec.Raw,)), Stored)
    assert len(again.result) <= 60_000
    task = json.loads(encode(payload_status(app, app.backend, "a", payload, limits)))
    check("random", task, "a")


EXAMPLES = settings(
    max_examples=examples(150),
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


@EXAMPLES
@given(st.binary(max_size=300))
def test_random_bytes(decoder: Celery, payload: bytes) -> None:
    check_payload(decoder, payload)


@EXAMPLES
@given(JSON_METAS)
def test_random_metas(decoder: Celery, value: dict[str, Any]) -> None:
    check_payload(decoder, json.dumps(value).encode())
