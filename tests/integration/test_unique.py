"""Calls that are unique until their run begins, or for a time, with real workers on each store."""

from __future__ import annotations

from typing import Any

import pytest

from tests.integration.conftest import Project, wait_until

TIMEOUT = 60

START: dict[str, Any] = {"unique_until": "start"}
HOUR: dict[str, Any] = {"unique_for": "1h"}


def policy(fields: dict[str, Any]) -> dict[str, Any]:
    names = ("work", "fails", "late", "flaky", "plain")
    tasks = {f"reports.{name}": {**fields, "significant_kwargs": ["x"]} for name in names}
    return {"tasks": tasks}


def runs(project: Project, x: str, name: str = "work") -> int:
    return project.runs(name, x)


@pytest.fixture(scope="module", params=["redis", "sqlite"])
def starting(request: pytest.FixtureRequest, start_project: Any) -> Project:
    project: Project = start_project(request.param, jobtastic_policy=policy(START))
    project.worker(concurrency=6)
    return project


@pytest.fixture(scope="module", params=["redis", "sqlite"])
def hourly(request: pytest.FixtureRequest, start_project: Any) -> Project:
    project: Project = start_project(request.param, jobtastic_policy=policy(HOUR))
    project.worker(concurrency=6)
    return project


def test_a_call_while_one_runs_makes_another_run_beside_it(starting: Project, unique: str) -> None:
    work = starting.task("work")
    first = work.delay(unique, 1, delay=5)
    wait_until(lambda: runs(starting, unique))
    second = work.delay(unique, 2, delay=0)
    assert (first.decision, second.decision) == ("published", "published")
    assert second.get(timeout=TIMEOUT)["y"] == 2
    assert first.state != "SUCCESS", "the second has not waited for the first"
    assert first.get(timeout=TIMEOUT)["y"] == 1
    assert runs(starting, unique) == 2
    assert not starting.claim("work", unique).beside


def test_calls_share_what_is_queued(start_project: Any, unique: str) -> None:
    project: Project = start_project(jobtastic_policy=policy(START))
    work = project.task("work")
    calls = [work.delay(unique, delay=0) for _ in range(5)]
    assert [one.decision for one in calls] == ["published"] + ["joined"] * 4
    project.worker()
    assert {one.get(timeout=TIMEOUT)["y"] for one in calls} == {1}
    assert runs(project, unique) == 1
