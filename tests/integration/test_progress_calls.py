"""Reports of a task whose worker is this very process, and of one whose app lacks the step."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from celery import Celery
from celery.app.task import Task

import jobtastic_ext
from jobtastic_ext.reporting import ATTRIBUTE
from tests.integration.steps import Steps, start_steps

__all__ = ("start_steps",)


@contextmanager
def carried_out(task: Task) -> Iterator[str]:
    """Be in the midst of a run of `task`, without any of Celery's signals."""
    task_id = uuid.uuid4().hex
    task.push_request(id=task_id, called_directly=False, is_eager=False, delivery_info={})
    try:
        yield task_id
    finally:
        run = task.request.__dict__.get(ATTRIBUTE)
        if run is not None:
            run.close()
        task.pop_request()


@pytest.mark.parametrize(("expires", "least", "most"), [(None, -1, -1), (0, -1, -1), (600, 1, 600)])
def test_a_state_lives_as_long_as_a_result(
    start_steps: Any, expires: int | None, least: int, most: int
) -> None:
    steps: Steps = start_steps(result_expires=expires)
    with carried_out(steps.task("plain")) as task_id:
        steps.task("plain").update_progress(1, 2)
    backend = steps.app.backend
    assert least <= backend.client.ttl(backend.get_key_for_task(task_id)) <= most


@pytest.mark.parametrize("serializer", ["json", "pickle", "yaml"])
def test_every_serializer(start_steps: Any, serializer: str) -> None:
    steps: Steps = start_steps(
        result_serializer=serializer, accept_content=["json", "pickle", "yaml"]
    )
    with carried_out(steps.task("plain")) as task_id:
        for n in range(3):
            steps.task("plain").update_progress(n, 3, message="läuft")
    result = steps.app.AsyncResult(task_id)
    assert (result.state, result.info["message"]) == ("PROGRESS", "läuft")
    assert jobtastic_ext.progress_of(result).total == 1


def test_an_app_without_the_step_shows_nothing_and_says_so(
    redis_server: Any, caplog: pytest.LogCaptureFixture
) -> None:
    app = Celery("bare", backend=redis_server.url(1), set_as_current=False)

    @app.task(name=f"bare.{uuid.uuid4()}", bind=True, shared=False)  # told once for each name
    def task(self: Task) -> None: ...

    with caplog.at_level(logging.WARNING), carried_out(app.tasks[task.name]) as task_id:
        for n in range(3):
            app.tasks[task.name].update_progress(n, 3)
        assert list(app.tasks[task.name].track("ab")) == ["a", "b"]
    assert app.AsyncResult(task_id).state == "PENDING"
    assert caplog.text.count("its app has no JobtasticStep") == 1


def test_outside_of_any_task(caplog: pytest.LogCaptureFixture) -> None:
    jobtastic_ext.update_progress(1, 2)
    assert list(jobtastic_ext.track(range(2))) == [0, 1]
    assert not caplog.records
