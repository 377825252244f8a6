"""A run in the caller's process, and how the result backend learns of its end."""

from __future__ import annotations

from typing import Any

import pytest
from celery.result import EagerResult

from jobtastic_ext.runtime import runtime_of
from tests.integration.conftest import Project, wait_until
from tests.reports import Flaky
from tests.servers import closed_port

BOUNDED = True


@pytest.fixture
def project(start_project: Any) -> Project:
    """A project whose broker refuses."""
    started: Project = start_project(broker_url=f"redis://127.0.0.1:{closed_port()}/0")
    return started


def test_a_value_that_cannot_be_stored_is_a_failure_and_holds_nothing_up(
    project: Project, unique: str
) -> None:
    # A worker records the EncodeError as the task's failure.
    @project.app.task(name="reports.unstorable", shared=False)
    def unstorable(x: Any) -> object:
        return object()

    result = unstorable.delay_or_eager(unique)
    assert isinstance(result, EagerResult)
    polled = project.app.AsyncResult(result.id)
    assert wait_until(polled.ready)
    assert polled.state == "FAILURE"
    assert "EncodeError" in str(type(polled.result))
    # What is written later is written in order: nothing may stand before it for ever.
    later = project.task("plain").delay_or_fail(unique)
    wait_until(lambda: project.app.AsyncResult(later.id).state == "FAILURE")


@pytest.mark.parametrize("name", ["fails", "alone_fails"])
def test_a_task_that_raises_through_the_call_is_a_failure_for_who_polls(
    project: Project, unique: str, name: str
) -> None:
    @project.app.task(name="reports.alone_fails", shared=False)  # without a policy
    def alone_fails(x: Any, delay: float = 0) -> None:
        raise Flaky(x)

    project.app.conf.task_eager_propagates = True
    with pytest.raises(Flaky):
        project.task(name).async_or_eager(args=(unique,), kwargs={"delay": 0}, task_id=unique)
    polled = project.app.AsyncResult(unique)
    wait_until(lambda: polled.state == "FAILURE")
    assert "Flaky" in polled.traceback


def test_a_result_backend_that_cannot_hold_the_outcome_is_no_outage(
    start_project: Any, unique: str
) -> None:
    # rpc:// raises RuntimeError for a result without the message that asked for it.
    project = start_project(
        broker_url=f"redis://127.0.0.1:{closed_port()}/0",
        result_backend="rpc://",
        jobtastic_policy={"tasks": {}},
    )
    assert project.task("plain").delay_or_fail(unique).state == "FAILURE"
    assert project.task("plain").delay_or_eager(unique).result == unique
    assert not runtime_of(project.app).results.breaker.is_open  # type: ignore[union-attr]
