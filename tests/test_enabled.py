"""What an app does that lacks the step, and one that is switched off."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from celery import Celery

from jobtastic_ext import ConfigurationError, JobtasticStep
from jobtastic_ext.runtime import close_runtime, runtime_of
from jobtastic_ext.settings import switched_off

POLICY = {"tasks": {"plain.work": {"on_duplicate": "raise"}}}


@pytest.fixture
def make_app() -> Any:
    apps = []

    def make(*, step: bool, **conf: Any) -> Any:
        app = Celery("plain", broker="memory://", backend="cache+memory://", set_as_current=False)
        app.conf.update(jobtastic_policy=POLICY, **conf)
        if step:
            app.steps["worker"].add(JobtasticStep)

        @app.task(name="plain.work", bind=True, shared=False)
        def work(self: Any, x: int = 0) -> int:
            self.update_progress(1, 2)
            return sum(self.track([x, x]))

        apps.append(app)
        return app.tasks["plain.work"]

    yield make
    for app in apps:
        close_runtime(app)
        app.close()


MEANS_LESS = {
    "delay_or_eager": lambda task: task.delay_or_eager(1),
    "delay_or_fail": lambda task: task.delay_or_fail(1),
    "async_or_eager": lambda task: task.async_or_eager(args=(1,)),
    "async_or_fail": lambda task: task.async_or_fail(args=(1,)),
    "refresh": lambda task: task.apply_async((1,), refresh=True),
    "forget": lambda task: task.forget(1),
}


@pytest.mark.parametrize("name", MEANS_LESS)
def test_without_the_step_what_changes_meaning_raises(make_app: Any, name: str) -> None:
    with pytest.raises(ConfigurationError, match="its app lacks the step; add app"):
        MEANS_LESS[name](make_app(step=False))


def test_without_the_step_what_only_shows_warns_once(
    make_app: Any, caplog: pytest.LogCaptureFixture
) -> None:
    task = make_app(step=False)
    task.push_request(id="a", called_directly=False, is_eager=False)
    for _ in range(3):
        assert task.run(2) == 4
    task.pop_request()
    (line,) = caplog.messages
    assert "update_progress and track show nothing: its app lacks the step" in line


@pytest.mark.parametrize("way", ["setting", "environment"])
def test_switched_off_everything_is_sent_as_celery_does_it(
    make_app: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, way: str
) -> None:
    if way == "environment":
        monkeypatch.setenv("JOBTASTIC_ENABLED", "0")
    task = make_app(step=True, **({"jobtastic_enabled": False} if way == "setting" else {}))
    caplog.set_level(logging.INFO)
    assert runtime_of(task.app) is None
    assert task.delay(1).id != task.delay(1).id
    for name in MEANS_LESS:
        MEANS_LESS[name](task)  # means what Celery means by it
    task.push_request(id="a", called_directly=False, is_eager=False)
    assert task.run(2) == 4
    task.pop_request()
    assert not [line for line in caplog.messages if "jobtastic" in line]


def test_a_switch_that_is_neither_on_nor_off_is_a_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JOBTASTIC_ENABLED", raising=False)
    assert switched_off(Celery("x", set_as_current=False).conf) == ""
    assert switched_off({"jobtastic_enabled": "true"}) == ""  # type: ignore[arg-type]
    assert switched_off({"jobtastic_enabled": False}) == "jobtastic_enabled=False"  # type: ignore[arg-type]
    monkeypatch.setenv("JOBTASTIC_ENABLED", "nope")
    with pytest.raises(ConfigurationError, match="JOBTASTIC_ENABLED is 'nope'; expected true or"):
        switched_off({})  # type: ignore[arg-type]
