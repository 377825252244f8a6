"""Calls that are unique until their run begins, or for a time, with real workers on each store."""

from __future__ import annotations

import time
from typing import Any

import pytest
from celery import chain, chord, group

from jobtastic_ext import DuplicateCall
from jobtastic_ext.runtime import runtime_of
from tests.integration.conftest import Copier, Project, wait_until

TIMEOUT = 60

START: dict[str, Any] = {"unique_until": "start"}
HOUR: dict[str, Any] = {"unique_for": "1h"}


def policy(**fields: Any) -> dict[str, Any]:
    names = ("work", "fails", "flaky", "unbound", "ignored", "replaced")
    tasks = {f"reports.{name}": {"significant_kwargs": ["x"], **fields} for name in names}
    return {"tasks": tasks}


@pytest.fixture(scope="module", params=["redis", "sqlite"])
def starting(request: pytest.FixtureRequest, start_project: Any) -> Project:
    project: Project = start_project(request.param, jobtastic_policy=policy(**START))
    project.worker(concurrency=6)
    return project


@pytest.fixture(scope="module", params=["redis", "sqlite"])
def hourly(request: pytest.FixtureRequest, start_project: Any) -> Project:
    project: Project = start_project(request.param, jobtastic_policy=policy(**HOUR))
    project.worker(concurrency=4)
    return project


def test_a_call_while_one_runs_makes_another_run_beside_it(starting: Project, unique: str) -> None:
    work = starting.task("work")
    with starting.gate(unique) as gate:
        first = work.delay(unique, 1, gate=gate)
        wait_until(lambda: starting.runs("work", unique))
        second = work.delay(unique, 2, delay=0)
        assert (first.decision, second.decision) == ("published", "published")
        runtime = runtime_of(starting.app)
        assert runtime is not None
        assert first.id in {each.id for each in runtime.desk.claims()}, "an operator sees it"
        assert second.get(timeout=TIMEOUT)["y"] == 2, "it has not waited for the first"
    assert first.get(timeout=TIMEOUT)["y"] == 1
    assert starting.runs("work", unique) == 2
    wait_until(lambda: not starting.claim("work", unique).beside, why="both are over")


def test_a_second_delivery_does_not_run_beside_its_run(starting: Project, unique: str) -> None:
    work = starting.task("work")
    with starting.gate(unique) as gate:
        with Copier(starting) as copier:
            first = work.delay(unique, 1, gate=gate)
        wait_until(lambda: starting.runs("work", unique))
        copier.send_again()
        wait_until(lambda: starting.says(f"[{first.id}] waits: ") == 1)
        other = work.delay(unique, 2, gate=gate)  # nor if the next one has begun
        wait_until(lambda: starting.runs("work", unique) == 2)
        copier.send_again()
        wait_until(lambda: starting.says(f"[{first.id}] waits: ") == 2)
    assert first.get(timeout=TIMEOUT)["y"] == 1
    assert other.get(timeout=TIMEOUT)["y"] == 2
    later = work.delay(unique, 3, delay=0)
    assert later.get(timeout=TIMEOUT)["y"] == 3
    ids = [line["id"] for line in starting.notes.read("work") if line["x"] == unique]
    assert ids == [first.id, other.id, later.id]


def test_retries_go_on_beside_each_other(starting: Project, unique: str) -> None:
    flaky = starting.task("flaky")
    with starting.gate(unique) as gate:
        first = flaky.delay(unique, gate=gate)
        wait_until(lambda: starting.runs("flaky", unique))
        second = flaky.delay(unique, gate=gate)
        wait_until(lambda: starting.runs("flaky", unique) == 2)
    assert first.id != second.id
    for result in (first, second):
        assert result.get(timeout=TIMEOUT) == {"x": unique, "retries": 2}
    runs = [line for line in starting.notes.read("flaky") if line["x"] == unique]
    assert sorted((line["id"], line["retries"]) for line in runs) == sorted(
        (result.id, attempt) for result in (first, second) for attempt in range(3)
    )


def test_parts_of_a_chord_share_the_run_for_which_they_were_sent(
    starting: Project, unique: str
) -> None:
    unbound, total = starting.task("unbound"), starting.task("total")
    assert (
        group(unbound.si(unique) for _ in range(4)).apply_async().get(timeout=TIMEOUT)
        == [unique] * 4
    )
    assert starting.runs("unbound", unique) == 1
    one = int(unique, 16)
    done = chord([unbound.si(one) for _ in range(4)], total.s()).apply_async()
    assert done.get(timeout=TIMEOUT) == 4 * one


def test_calls_share_what_is_queued_and_a_killed_worker_loses_nobody(
    start_project: Any, unique: str
) -> None:
    project: Project = start_project(jobtastic_policy=policy(**START))
    work = project.task("work")
    calls = [work.delay(unique, 1, delay=60) for _ in range(5)]
    assert [one.decision for one in calls] == ["published"] + ["joined"] * 4
    assert len({one.id for one in calls}) == 1
    with project.worker() as worker:
        wait_until(lambda: project.runs("work", unique))
        worker.kill()
    project.worker()

    def is_served() -> bool:
        # Whoever runs after the lease is over serves those who had joined the run that died.
        work.delay(unique, 2, delay=0).get(timeout=TIMEOUT)
        return bool(calls[0].ready())

    wait_until(is_served)
    assert {one.get(timeout=TIMEOUT)["y"] for one in calls} == {2}


def test_without_results_each_call_after_a_start_runs(start_project: Any, unique: str) -> None:
    project: Project = start_project(jobtastic_policy=policy(**START), task_ignore_result=True)
    work = project.task("work")
    with project.gate(unique) as gate:
        for _ in range(3):
            work.delay(unique, gate=gate)
            project.app.send_task("reports.work", (unique,), {"gate": gate})
        project.worker(concurrency=6)

        def settled() -> int:
            return project.runs("work", unique) + project.says("] ignored")

        # One message of the calls (or its copies, if the worker was so slow that they seemed lost),
        # three that were sent: what is queued yet would share the run.
        wait_until(lambda: 4 <= project.says("] received") == settled())
        again = work.delay(unique, delay=0)
        assert again.decision == "published"
        wait_until(lambda: any(line["id"] == again.id for line in project.notes.read("work")))


def test_a_duplicate_is_refused_only_while_it_is_queued(start_project: Any, unique: str) -> None:
    """celery-once's `unlock_before_run`, which raises."""
    project: Project = start_project(jobtastic_policy=policy(**START, on_duplicate="raise"))
    work = project.task("work")
    with project.gate(unique) as gate:
        first = work.delay(unique, 1, gate=gate)
        with pytest.raises(DuplicateCall):
            work.delay(unique, 2)
        project.worker()
        wait_until(lambda: project.runs("work", unique))
        assert work.delay(unique, 3, delay=0).get(timeout=TIMEOUT)["y"] == 3
    assert first.get(timeout=TIMEOUT)["y"] == 1


def test_a_call_within_the_time_gets_the_run_that_started(hourly: Project, unique: str) -> None:
    work, plain = hourly.task("work"), hourly.task("plain")
    with hourly.gate(unique) as gate:
        first = work.delay(unique, 1, gate=gate)
        wait_until(lambda: hourly.runs("work", unique))
        while_it_runs = work.delay(unique, 2)
    value = first.get(timeout=TIMEOUT)
    wait_until(lambda: hourly.claim("work", unique).holder is None)
    afterwards = work.delay(unique, 3)
    assert [one.decision for one in (while_it_runs, afterwards)] == ["joined", "joined"]
    assert {first.id, while_it_runs.id, afterwards.id} == {first.id}
    assert afterwards.get(timeout=TIMEOUT) == value
    sent = hourly.app.send_task("reports.work", (unique, 4))  # as beat sends it
    assert sent.get(timeout=TIMEOUT) == value
    named = work.apply_async((unique, 5), task_id=f"{unique}-named")
    assert named.get(timeout=TIMEOUT) == value
    later = work.apply_async((unique, 6), countdown=0.1)
    assert later.get(timeout=TIMEOUT) == value
    after = chain(work.si(unique, 7), plain.si(unique)).apply_async()
    assert after.get(timeout=TIMEOUT) == unique
    assert hourly.runs("work", unique) == 1


def test_who_asks_for_a_new_run_gets_it(hourly: Project, unique: str) -> None:
    work = hourly.task("work")
    first = work.delay(unique, 1, delay=0)
    first.get(timeout=TIMEOUT)
    anew = work.apply_async((unique, 2), {"delay": 0}, refresh=True)
    assert anew.get(timeout=TIMEOUT)["y"] == 2
    wait_until(lambda: hourly.claim("work", unique).holder is None)
    assert work.delay(unique, 3).id == anew.id, "the time counts from the last start"
    assert work.forget(unique)
    assert work.delay(unique, 4, delay=0).get(timeout=TIMEOUT)["y"] == 4


def test_a_failure_frees_it(hourly: Project, unique: str) -> None:
    fails = hourly.task("fails")
    first = fails.delay(unique, delay=0)
    assert isinstance(first.get(timeout=TIMEOUT, propagate=False), Exception)
    second = fails.delay(unique, delay=0)
    assert second.id != first.id
    assert isinstance(second.get(timeout=TIMEOUT, propagate=False), Exception)
    assert hourly.runs("fails", unique) == 2


def test_a_result_that_is_gone_frees_it(hourly: Project, unique: str) -> None:
    work = hourly.task("work")
    first = work.delay(unique, 1, delay=0)
    assert first.get(timeout=TIMEOUT)["y"] == 1
    wait_until(lambda: hourly.claim("work", unique).holder is None)
    first.forget()
    again = work.delay(unique, 2, delay=0)
    assert again.get(timeout=TIMEOUT)["y"] == 2
    wait_until(lambda: hourly.claim("work", unique).holder is None)
    assert work.delay(unique, 3).id == again.id
    assert hourly.runs("work", unique) == 2


@pytest.mark.parametrize("name", ["ignored", "replaced"])
def test_a_run_that_ends_itself_without_a_result_counts(
    hourly: Project, unique: str, name: str
) -> None:
    task = hourly.task(name)
    first = task.delay(unique)
    wait_until(lambda: hourly.runs(name, unique))
    wait_until(lambda: hourly.claim(name, unique).holder is None)
    second = task.delay(unique)
    assert (second.id, second.decision) == (first.id, "joined")
    if name == "replaced":
        assert second.get(timeout=TIMEOUT) == unique
    assert task.delay(unique).id == first.id
    assert hourly.runs(name, unique) == 1


def test_retries_are_one_start(hourly: Project, unique: str) -> None:
    flaky = hourly.task("flaky")
    with hourly.gate(unique) as gate:
        first = flaky.delay(unique, gate=gate)
        wait_until(lambda: hourly.runs("flaky", unique))
        assert flaky.delay(unique).id == first.id
    assert first.get(timeout=TIMEOUT) == {"x": unique, "retries": 2}
    wait_until(lambda: hourly.claim("flaky", unique).holder is None)
    assert flaky.delay(unique).id == first.id
    assert hourly.runs("flaky", unique) == 3


def test_a_killed_worker_frees_it(start_project: Any, unique: str) -> None:
    project: Project = start_project(jobtastic_policy=policy(**HOUR))
    work = project.task("work")
    with project.worker() as worker:
        first = work.delay(unique, 1, delay=60)
        wait_until(lambda: project.runs("work", unique))
        worker.kill()
    project.worker()

    def is_sent_again() -> bool:
        work.delay(unique, 2, delay=0)
        return project.runs("work", unique) >= 2

    wait_until(is_sent_again, why="the lease is over")
    assert first.get(timeout=TIMEOUT)["y"] == 2
    assert project.runs("work", unique) == 2


def test_when_the_time_is_over_another_starts_beside_the_first(
    start_project: Any, unique: str
) -> None:
    project: Project = start_project(
        jobtastic_policy=policy(**START, unique_for="2s"), task_ignore_result=True
    )
    project.worker()
    work = project.task("work")
    with project.gate(unique) as gate:
        began = time.monotonic()
        work.delay(unique, 1, gate=gate)
        wait_until(lambda: project.runs("work", unique))
        project.app.send_task("reports.work", (unique, 2), {"delay": 0})
        third = work.delay(unique, 3, delay=0).decision
        assert third == "joined" or time.monotonic() - began > 2  # on a busy machine
        wait_until(lambda: work.delay(unique, 4, delay=0).decision == "published")
        wait_until(lambda: project.runs("work", unique) == 2)


@pytest.mark.parametrize("fields", [START, HOUR], ids=["start", "hour"])
def test_within_the_memory_of_one_worker(
    start_project: Any, unique: str, fields: dict[str, Any]
) -> None:
    """With the store `memory://` only what arrives at one worker of threads is settled."""
    project: Project = start_project(
        jobtastic_policy=policy(**fields), jobtastic_store=f"memory://{unique}"
    )
    project.worker(pool="threads", concurrency=6)
    send = project.app.send_task
    with project.gate(unique) as gate:
        first = send("reports.work", (unique, 1), {"gate": gate}, task_id=f"{unique}-1")
        wait_until(lambda: project.runs("work", unique))
        send("reports.work", (unique, 1), {"gate": gate}, task_id=first.id)  # a second delivery
        wait_until(lambda: project.says(f"[{first.id}] waits: "))
        second = send("reports.work", (unique, 2), {"delay": 0})
        wait_until(
            lambda: project.runs("work", unique) + project.says(f"[{second.id}] waits: ") == 2
        )
    expected = 2 if fields is START else 1
    assert second.get(timeout=TIMEOUT)["y"] == expected
    assert first.get(timeout=TIMEOUT)["y"] == 1
    assert project.runs("work", unique) == expected
