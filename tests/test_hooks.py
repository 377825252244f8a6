"""What features are told of a run: in which order, and whatever becomes of one of them."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery
from celery.app.task import Context
from celery.concurrency.prefork import TaskPool

from jobtastic_ext import JobtasticStep
from jobtastic_ext.hooks import Entered, RunHooks, RunState, around_body, state_of, tell_all
from jobtastic_ext.runtime import close_runtime, runtime_of


def leaks() -> None: ...


class Noted(RunHooks):
    def __init__(self, name: str, notes: list[str], fails: bool = False) -> None:
        self.name, self.notes, self.fails = name, notes, fails

    def on_postrun(self, task: Any, *_: Any) -> None:
        self.notes.append(self.name)
        if self.fails:
            raise ValueError(self.name)

    @contextmanager
    def around_body(self, entered: Entered) -> Iterator[None]:
        self.notes.append(f"{self.name} in")
        if self.fails:
            raise ValueError(self.name)
        try:
            yield
        finally:
            self.notes.append(f"{self.name} out")


def test_the_order_of_the_features() -> None:
    """A claim is let go of before anything is shown or measured: others wait for that."""
    app = Celery("hooks", set_as_current=False, broker="memory://", backend="cache+memory://")
    app.conf.update(
        jobtastic_policy={"tasks": {"hooks.leaks": {"memleak_threshold": 50}}},
        jobtastic_store="memory://",
    )
    app.steps["worker"].add(JobtasticStep)
    app.task(leaks, name="hooks.leaks", shared=False)
    app.finalize()
    runtime = runtime_of(app)
    assert runtime is not None
    try:
        names = [type(one).__name__ for one in runtime.hooks]
        assert names == ["Postrun", "Reporter", "CountedRuns"]
        assert runtime.watch_memory(SimpleNamespace(pool_cls=TaskPool, concurrency=1))
        names = [type(one).__name__ for one in runtime.hooks]
        assert names == ["Postrun", "Reporter", "CountedRuns", "MemoryRuns"]
    finally:
        close_runtime(app)


def test_the_first_is_outermost_and_each_is_left() -> None:
    notes: list[str] = []
    entered = Entered(None, Context(), (), {}, "")  # type: ignore[arg-type]
    with around_body((Noted("a", notes), RunHooks(), Noted("b", notes)), entered):
        notes.append("body")
    assert notes == ["a in", "b in", "body", "b out", "a out"]
    notes.clear()
    with pytest.raises(ValueError, match="b"):
        around_body((Noted("a", notes), Noted("b", notes, fails=True)), entered)
    assert notes == ["a in", "b in", "a out"]


def test_a_feature_that_fails_keeps_nobody_from_the_end(caplog: pytest.LogCaptureFixture) -> None:
    notes: list[str] = []
    hooks = (RunHooks(), Noted("a", notes, fails=True), Noted("b", notes))
    with caplog.at_level(logging.ERROR, logger="jobtastic_ext"):
        tell_all(hooks, RunHooks.on_postrun, SimpleNamespace(name="t"), "SUCCESS", 1, (), {})
    assert notes == ["a", "b"]
    assert "t: Noted failed; the task goes on" in caplog.text


def test_a_header_called_as_our_attribute_is_no_state() -> None:
    request = Context({"jobtastic_run": {"body": "left out"}})
    assert state_of(request) == RunState()
    assert state_of(request) is state_of(request)
