"""Messages that no patched `apply_async` has seen, or that come twice."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from celery.result import AsyncResult

from tests.integration.conftest import Copier, Project, wait_until
from tests.reports import Grid

TIMEOUT = 30


def waiting(project: Project, results: list[AsyncResult]) -> int:
    """How many of them a worker has put where they wait."""
    return sum(project.says(f"[{result.id}] waits: ") for result in results)


def test_send_task_is_settled_at_the_worker(project: Project, unique: str) -> None:
    send = project.app.send_task
    with project.gate(unique) as gate:
        results = [send("reports.work", (unique,), {"gate": gate}) for _ in range(4)]
        wait_until(lambda: waiting(project, results) == 3)
    assert len({result.id for result in results}) == 4
    for result in results:
        assert result.get(timeout=TIMEOUT) == {"x": unique, "y": 1}
    assert project.runs("work", unique) == 1


@pytest.mark.parametrize(
    "header", [5, "x", [], {"key": 7}, {"key": "foreign:key", "gen": "x"}, {"looks": "many"}]
)
def test_a_foreign_header_is_ignored(project: Project, unique: str, header: Any) -> None:
    sent = project.app.send_task("reports.work", (unique,), headers={"jobtastic": header})
    assert sent.get(timeout=TIMEOUT) == {"x": unique, "y": 1}
    wait_until(
        lambda: (claim := project.claim("work", unique)) and claim.value and claim.value.owner
    )
    assert project.claim("work", unique).value.owner == sent.id


def test_send_task_reuses_a_cached_result(project: Project, unique: str) -> None:
    first = project.task("cached").delay(unique)
    value = first.get(timeout=TIMEOUT)
    wait_until(lambda: project.claim("cached", unique).value is not None)
    sent = project.app.send_task("reports.cached", (unique,))
    assert sent.id != first.id
    assert sent.get(timeout=TIMEOUT) == value
    assert project.runs("cached", unique) == 1


def test_a_beat_entry_is_settled(start_project: Any, unique: str, tmp_path: Path) -> None:
    entry = {"task": "reports.cached", "schedule": 0.5, "args": [unique], "kwargs": {"delay": 0.2}}
    project = start_project(beat_schedule={"often": entry})
    beat = ("-B", "-s", str(tmp_path / "beat"))
    worker = project.worker(concurrency=2, arguments=beat)
    wait_until(lambda: worker.output().count("Sending due task often") >= 4)
    wait_until(lambda: project.runs("cached", unique) >= 1)
    assert project.runs("cached", unique) == 1


def test_a_message_delivered_twice_runs_once(project: Project, unique: str) -> None:
    # A broker's failover, or Redis' visibility timeout, delivers a message again while it runs.
    work = project.task("work")
    task_id = f"twice-{unique}"
    with project.gate(unique) as gate:
        for _ in range(2):
            project.app.send_task("reports.work", (unique,), {"gate": gate}, task_id=task_id)
        wait_until(lambda: project.says(f"[{task_id}] waits: "))
    assert work.AsyncResult(task_id).get(timeout=TIMEOUT)["x"] == unique
    wait_until(lambda: project.says(f"[{task_id}] dropped: it has run already"))
    assert project.runs("work", unique) == 1
    assert work.AsyncResult(task_id).state == "SUCCESS"


def test_a_copy_that_comes_after_the_end_does_not_run(project: Project, unique: str) -> None:
    with Copier(project) as copier:
        first = project.task("work").delay(unique, delay=0)
    assert first.get(timeout=TIMEOUT)["x"] == unique
    wait_until(lambda: project.claim("work", unique).holder is None)
    copier.send_again()
    wait_until(lambda: project.says(f"[{first.id}] dropped: it has run already"))
    assert project.runs("work", unique) == 1


def test_a_header_handed_on_to_a_child_is_not_the_childs(project: Project, unique: str) -> None:
    # Many tasks hand on `self.request.headers`, for a tenant or a trace.
    parent = project.task("hands_on").delay(unique)
    child = project.app.AsyncResult(parent.get(timeout=TIMEOUT))
    assert child.get(timeout=TIMEOUT) == {"x": f"{unique}-child", "y": 1}


def test_an_explicit_id_may_be_used_again(project: Project, unique: str) -> None:
    # Unlike a copy, it is sent by `apply_async`: somebody asks for another run.
    work = project.task("work")
    for count in (1, 2):
        work.apply_async((unique,), {"delay": 0}, task_id=f"nightly-{unique}")
        wait_until(lambda count=count: project.runs("work", unique) == count)
        wait_until(lambda: project.claim("work", unique).holder is None)


def test_visibility_timeout_delivers_a_copy_that_waits(start_project: Any, unique: str) -> None:
    # kombu looks for messages that are out too long when a worker starts, and every ten seconds;
    # any consumer does that for all.
    project = start_project(broker_transport_options={"visibility_timeout": 2})
    worker = project.worker(concurrency=2)
    late = project.task("late")
    with project.gate(unique) as gate:
        result = late.delay(unique, gate=gate)
        wait_until(lambda: project.runs("late", unique) == 1)
        time.sleep(2.5)
        with project.app.connection_for_write() as connection:
            connection.default_channel.qos.restore_visible()
        worker.wait_for(f"reports.late[{result.id}] waits: task {result.id} is running")
    assert result.get(timeout=TIMEOUT) == unique
    worker.wait_for(f"reports.late[{result.id}] dropped: it has run already")
    assert project.runs("late", unique) == 1


def test_a_plain_call_joins_a_run_that_was_sent_by_name(project: Project, unique: str) -> None:
    with project.gate(unique) as gate:
        sent = project.app.send_task("reports.work", (unique,), {"gate": gate})
        wait_until(lambda: project.runs("work", unique) == 1)
        assert project.task("work").delay(unique).id == sent.id


def test_no_slot_is_held_by_those_who_wait(start_project: Any, unique: str) -> None:
    project = start_project()
    project.worker(concurrency=2)
    send = project.app.send_task
    with project.gate(unique) as gate:
        results = [send("reports.work", (unique,), {"gate": gate}) for _ in range(10)]
        wait_until(lambda: waiting(project, results) == 9)
        assert project.task("plain").delay(unique).get(timeout=TIMEOUT) == unique
    for result in results:
        result.get(timeout=TIMEOUT)
    assert project.runs("work", unique) == 1


@pytest.fixture(scope="module")
def pickled(start_project: Any) -> Project:
    turns = {"on_duplicate": "serialize", "significant_kwargs": []}
    project: Project = start_project(
        jobtastic_policy={
            "tasks": {"reports.mirror": turns, "reports.grids": {"significant_kwargs": ["x"]}}
        },
        accept_content=["json", "pickle"],
        task_track_started=True,
    )
    project.worker(concurrency=2)
    return project


def test_a_retry_with_an_array(pickled: Project, unique: str) -> None:
    # Whether arguments have changed cannot be told of NumPy's arrays.
    retried = pickled.task("grids").delay(unique, Grid(1))
    assert retried.get(timeout=TIMEOUT) == 2


def test_a_message_that_waits_comes_back_as_it_came(pickled: Project, unique: str) -> None:
    # `signature_from_request` leaves the serializer, the compression and the masks behind, and
    # Celery stores STARTED before it calls the body.
    mirror = pickled.task("mirror")
    first = mirror.apply_async(([1],), {"gate": unique}, headers={"tenant": "seven"})
    wait_until(lambda: first.state != "PENDING", why="it runs")
    key = mirror.backend.get_key_for_task(unique)
    with mirror.backend.client.pubsub(ignore_subscribe_messages=True) as states:
        states.subscribe(key)
        second = mirror.apply_async(
            ({2},),  # no JSON
            task_id=unique,
            serializer="pickle",
            compression="gzip",
            priority=3,
            argsrepr="({secret},)",
            kwargsrepr="{secret}",
            headers={"tenant": "seven"},
        )
        wait_until(lambda: pickled.says(f"[{second.id}] waits: "))
        pickled.notes.open(unique)
        assert second.get(timeout=TIMEOUT) == {
            "x": [2],
            "argsrepr": "({secret},)",
            "kwargsrepr": "{secret}",
            "compression": "application/x-gzip",
            "priority": 3,
            "tenant": "seven",
        }
        assert first.ready()
        seen = []
        while not seen or seen[-1]["status"] != "SUCCESS":
            if message := states.get_message(timeout=TIMEOUT):
                seen.append(json.loads(message["data"]))
    assert [state["status"] for state in seen].count("STARTED") == 1
    assert seen[0]["result"].keys() == {"pid", "hostname"}, "as Celery says it"
