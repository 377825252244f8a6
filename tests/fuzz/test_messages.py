"""A message with whatever header and whatever arguments does what it does without us."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from celery import Celery
from celery.app.task import Context
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jobtastic_ext import JobtasticStep
from jobtastic_ext.claims.header import HEADER, Header, read_header
from jobtastic_ext.runtime import Runtime, close_runtime, runtime_of
from jobtastic_ext.worker.wrapping import unwrap_tasks, wrap_tasks
from tests.thorough import examples

FUZZ = settings(max_examples=examples(150), database=None, suppress_health_check=list(HealthCheck))

PLAIN = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10)
ODD = st.recursive(
    PLAIN,
    lambda below: (
        st.lists(below, max_size=3) | st.dictionaries(st.text(max_size=5), below, max_size=3)
    ),
    max_leaves=6,
)
#: Headers with our fields, but with anything in them, and often with the right id and key.
HEADERS = st.one_of(
    ODD,
    st.dictionaries(st.sampled_from([*Header.__struct_fields__, "more"]), ODD, max_size=5),
    st.fixed_dictionaries(
        {"id": st.just("own"), "key": st.just("jobtastic:fuzz.work:0") | st.text(max_size=5)},
        optional={
            "gen": st.text(max_size=3) | ODD,
            "since": st.integers() | ODD,
            "looks": st.integers() | ODD,
            "after": st.text(max_size=3),
            "bare": st.booleans(),
            "copy": st.booleans(),
            "refresh": st.booleans() | ODD,
        },
    ),
)


@pytest.fixture(scope="module")
def app() -> Any:
    app = Celery("fuzz", broker="memory://", backend="cache+memory://", set_as_current=False)
    app.steps["worker"].add(JobtasticStep)
    app.conf.update(jobtastic_policy={"tasks": {"fuzz.*": {}}}, jobtastic_store="memory://fuzz")

    @app.task(name="fuzz.work", shared=False)
    def work(a: Any, b: Any = 2) -> Any:
        return "ran"

    app.finalize()
    runtime = runtime_of(app)
    assert isinstance(runtime, Runtime)
    wrap_tasks(runtime.deliveries)
    yield app
    unwrap_tasks(runtime.deliveries)
    close_runtime(app)
    app.close()


@FUZZ
@given(raw=HEADERS)
def test_a_header_is_ours_or_ignored(app: Any, raw: Any) -> None:
    runtime = runtime_of(app)
    assert runtime is not None
    plan = runtime.plan(app.tasks["fuzz.work"])
    assert plan is not None
    header = read_header(raw, plan.key_head, "own")
    assert isinstance(header, Header)
    assert header == Header() or header.id == "own"


@FUZZ
@given(
    raw=HEADERS,
    args=st.lists(ODD, max_size=4),
    kwargs=st.dictionaries(st.sampled_from(["a", "b", "c", ""]), ODD, max_size=3),
    retries=st.sampled_from([0, None, 1, 7]),
    info=st.sampled_from([None, {}, {"redelivered": True}, {"redelivered": None}]),
)
def test_a_message_runs_or_fails_as_it_would(
    app: Any, raw: Any, args: list[Any], kwargs: dict[str, Any], retries: Any, info: Any
) -> None:
    task = app.tasks["fuzz.work"]
    if isinstance(raw, dict) and raw.get("id") == "own":
        raw = {**raw, "id": (task_id := str(uuid.uuid4()))}
    else:
        task_id = str(uuid.uuid4())
    request = Context(
        {"id": task_id, "retries": retries, "delivery_info": info, HEADER: raw},
        args=args,
        kwargs=kwargs,
        called_directly=False,
    )
    fits = bare(args, kwargs)
    task.request_stack.push(request)
    try:
        if fits:
            assert task.run(*args, **kwargs) == "ran"
        else:
            with pytest.raises(TypeError):
                task.run(*args, **kwargs)
    finally:
        task.request_stack.pop()
        from_store = runtime_of(app)
        assert from_store is not None
        from_store.store._store._memory()._claims.clear()  # type: ignore[attr-defined]


def bare(args: list[Any], kwargs: dict[str, Any]) -> bool:
    def work(a: Any, b: Any = 2) -> None: ...

    try:
        work(*args, **kwargs)
    except TypeError:
        return False
    return True
