"""Runs are shared where nobody can read results: the job that beat starts again and again.

Guards that a message which is a duplicate ends with `Ignore`, that a canvas goes on all the same,
that a disabled backend is asked for nothing, and `rpc://` only where nobody reads results.
"""

from __future__ import annotations

import re
from typing import Any

import pytest
from celery import VERSION, chain

from tests.integration.conftest import Project, wait_until

POLICY = {"tasks": {"reports.work": {"significant_kwargs": ["x"]}}}

WAYS: dict[str, dict[str, Any]] = {
    "ignored": {"task_ignore_result": True},
    "disabled": {"result_backend": None},
    "rpc": {"result_backend": "rpc://", "task_ignore_result": True},
    "claims in a file": {"task_ignore_result": True},
}

STORES = ("redis", "sqlite")


@pytest.fixture(scope="module", params=WAYS)
def blind(request: pytest.FixtureRequest, start_project: Any) -> Project:
    store = STORES["file" in request.param]
    project: Project = start_project(store, jobtastic_policy=POLICY, **WAYS[request.param])
    project.worker()
    return project


def runs(project: Project, x: str) -> int:
    return len([line for line in project.notes.read("work") if line["x"] == x])


def test_calls_share_a_run_and_leave_nothing_behind(blind: Project, unique: str) -> None:
    work = blind.task("work")
    with blind.gate(unique) as gate:
        first = work.delay(unique, gate=gate)
        wait_until(lambda: runs(blind, unique))
        again = [work.delay(unique) for _ in range(5)]
    assert first.decision == "published"
    assert {one.id for one in again} == {first.id}
    assert {one.decision for one in again} == {"joined"}
    wait_until(lambda: blind.claim("work", unique).holder is None, why="it is over")
    assert runs(blind, unique) == 1
    after = work.delay(unique, delay=0)
    assert after.id != first.id
    wait_until(lambda: runs(blind, unique) == 2)


def test_a_message_that_came_another_way_is_dropped_beside_a_run(
    blind: Project, unique: str
) -> None:
    with blind.gate(unique) as gate:
        blind.task("work").delay(unique, gate=gate)
        wait_until(lambda: runs(blind, unique))
        for _ in range(3):  # as beat sends it
            sent = blind.app.send_task("reports.work", (unique,), {"delay": 0})
            wait_until(lambda sent=sent: blind.says(f"[{sent.id}] dropped: "))
    wait_until(lambda: blind.claim("work", unique).holder is None)
    assert runs(blind, unique) == 1


@pytest.mark.skipif(VERSION < (5, 7), reason="older Celery says of every such message the same")
def test_who_sends_by_name_and_asks_for_a_result_gets_one(start_project: Any, unique: str) -> None:
    project: Project = start_project(jobtastic_policy=POLICY, task_ignore_result=True)
    project.worker()
    with project.gate(unique) as gate:
        project.task("work").delay(unique, gate=gate)
        wait_until(lambda: runs(project, unique))
        sent = project.app.send_task("reports.work", (unique,), {"delay": 0}, ignore_result=False)
        wait_until(lambda: project.says(f"[{sent.id}] waits: "))
    assert sent.get(timeout=60) == {"x": unique, "y": 1}
    assert runs(project, unique) == 2


def test_a_second_delivery_of_a_part_does_not_go_on_twice(blind: Project, unique: str) -> None:
    plain = blind.task("plain")
    part = {"task_id": f"{unique}-part", "chain": [plain.si(unique)]}
    with blind.gate(unique) as gate:
        for _ in range(2):
            blind.app.send_task("reports.work", (unique,), {"gate": gate}, **part)
            wait_until(lambda: runs(blind, unique))
        wait_until(lambda: blind.says(f"[{unique}-part] waits: "))
    wait_until(lambda: blind.runs("plain", unique))
    wait_until(lambda: blind.says(f"[{unique}-part] dropped: it has run already"))
    assert (runs(blind, unique), blind.runs("plain", unique)) == (1, 1)


def test_a_chain_goes_on_after_the_run_that_did_it(blind: Project, unique: str) -> None:
    work, plain = blind.task("work"), blind.task("plain")
    with blind.gate(unique) as gate:
        work.delay(unique, gate=gate)
        wait_until(lambda: runs(blind, unique))
        last = chain(work.si(unique), plain.si(unique)).apply_async()
        wait_until(lambda: blind.says(f"[{last.parent.id}] waits: "))
    wait_until(lambda: blind.runs("plain", unique))
    assert runs(blind, unique) == 1
    assert blind.claim("work", unique).holder is None, "it did not go on before the run was over"


def test_a_chain_does_not_go_on_after_a_run_that_failed(start_project: Any, unique: str) -> None:
    """The part of the chain that waited for it runs itself, since nobody knows more."""
    project: Project = start_project(
        jobtastic_policy={"tasks": {"reports.fails": {}}}, task_ignore_result=True
    )
    worker = project.worker()
    fails, plain = project.task("fails"), project.task("plain")
    with project.gate(unique) as gate:
        fails.delay(unique, gate=gate)
        wait_until(lambda: project.runs("fails", unique))
        last = chain(fails.si(unique, gate=gate), plain.si(unique)).apply_async()
        wait_until(lambda: project.says(f"[{last.parent.id}] waits: "))
    wait_until(lambda: project.runs("fails", unique) == 2)
    wait_until(lambda: not getattr(project.claim("fails", unique, gate=gate), "holder", None))
    plain.delay(f"{unique}-later")
    wait_until(lambda: project.runs("plain", f"{unique}-later"))
    assert len(re.findall(r"reports\.plain\[\S+\] received", worker.output())) == 1


def test_who_joins_a_run_whose_result_is_ignored_does_not_wait_for_it(
    start_project: Any, unique: str
) -> None:
    """Celery's `get()` answers None at once there; who asks for a result gets a run of its own."""
    project: Project = start_project(jobtastic_policy=POLICY, task_ignore_result=True)
    project.worker()
    work = project.task("work")
    with project.gate(unique) as gate:
        first, again = (work.delay(unique, gate=gate) for _ in range(2))
        assert (first.get(timeout=60), again.decision) == (None, "joined")
        assert again.get(timeout=60) is None
        wait_until(lambda: runs(project, unique))
        wants = work.apply_async((unique,), {"delay": 0}, ignore_result=False)
    assert wants.get(timeout=60) == {"x": unique, "y": 1}
    assert runs(project, unique) == 2


@pytest.mark.parametrize("store", STORES)
def test_a_killed_worker_is_followed_by_the_next_call(
    start_project: Any, unique: str, store: str
) -> None:
    project: Project = start_project(store, jobtastic_policy=POLICY, task_ignore_result=True)
    work = project.task("work")
    with project.worker() as worker:
        first = work.delay(unique, delay=60)
        wait_until(lambda: runs(project, unique))
        worker.kill()
    project.worker()

    def is_sent_again() -> bool:
        work.delay(unique, delay=0)
        return runs(project, unique) >= 2

    wait_until(is_sent_again, why="the lease is over")
    ids = [line["id"] for line in project.notes.read("work") if line["x"] == unique]
    assert ids[:2] == [first.id] * 2


def test_a_call_while_one_runs_is_answered_by_one_more_run(start_project: Any, unique: str) -> None:
    """`on_duplicate: buffer_one`: neither dropped nor given the old answer."""
    policy = {"significant_kwargs": ["x"], "on_duplicate": "buffer_one"}
    project: Project = start_project(jobtastic_policy={"tasks": {"reports.work": policy}})
    project.worker()
    work = project.task("work")
    with project.gate(unique) as gate:
        first = work.delay(unique, 1, gate=gate)
        wait_until(lambda: runs(project, unique))
        later = [work.delay(unique, 2, delay=0) for _ in range(20)]
        sent = project.app.send_task("reports.work", (unique, 3), {"delay": 0})
        wait_until(lambda: project.says(f"[{sent.id}] waits: "))
    assert first.decision == "published"
    assert [one.decision for one in later] == ["buffered"] + ["joined"] * 19
    assert len({one.id for one in later} - {first.id}) == 1
    assert first.get(timeout=60)["y"] == 1
    assert {one.get(timeout=60)["y"] for one in later} <= {2, 3}
    assert sent.get(timeout=60)["y"] in (2, 3)
    assert runs(project, unique) == 2


def test_those_that_take_turns_all_run(start_project: Any, unique: str) -> None:
    policy = {"significant_kwargs": ["x"], "on_duplicate": "serialize"}
    project: Project = start_project(
        jobtastic_policy={"tasks": {"reports.work": policy}}, task_ignore_result=True
    )
    project.worker()
    for _ in range(3):
        project.task("work").delay(unique, delay=0.5)
    wait_until(lambda: runs(project, unique) == 3)
