"""What is told of a task whose next attempt waits."""

from __future__ import annotations

from typing import Any

import pytest

from tests.integration.conftest import Project, wait_until
from tests.web.sites import site
from tests.web.test_status import status


def waiting(project: Project, task_id: str) -> dict[str, Any]:
    return wait_until(lambda: (task := status(project, task_id))["status"] == "RETRY" and task)


def test_it_says_when_the_next_attempt_begins(project: Project, unique: str) -> None:
    result = project.task("flaky").delay(unique, failures=1, pause=8)
    told = waiting(project, result.id)
    assert 0 < told["retry_in"] <= 8
    assert told["attempt"] == 1
    later = wait_until(
        lambda: (task := status(project, result.id)).get("retry_in", 9) < told["retry_in"] and task
    )
    assert later["status"] == "RETRY"
    wait_until(lambda: status(project, result.id)["status"] == "SUCCESS")
    assert "retry_in" not in status(project, result.id)


@pytest.mark.parametrize("pause", [0.4, None])
def test_what_is_short_is_not_told(project: Project, unique: str, pause: float | None) -> None:
    result = project.task("flaky").delay(unique, failures=5, pause=pause)
    assert "retry_in" not in waiting(project, result.id)


def test_each_attempt_has_its_own(project: Project, unique: str) -> None:
    result = project.task("flaky").delay(unique, failures=2, pause=4)
    for attempt in (1, 2):
        told = wait_until(
            lambda attempt=attempt: (
                (task := status(project, result.id)).get("attempt") == attempt and task
            )
        )
        assert told["retry_in"] > 0


def test_who_listens_is_told_at_once(project: Project, unique: str) -> None:
    from tests.web.test_events import Stream

    with site("asgi", project.app) as pages:
        result = project.task("flaky").delay(unique, failures=1, pause=30)
        with Stream(pages, result.id) as stream:
            wait_until(lambda: "RETRY" in stream.states())
            told = next(task for task in stream.tasks if task["status"] == "RETRY")
    assert 0 < told["retry_in"] <= 30
