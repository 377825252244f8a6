"""What becomes of a call's own `countdown`, `eta`, `expires` and `task_id` when it shares a run."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from celery import chain, chord
from celery.exceptions import WorkerLostError
from celery.signals import before_task_publish

from tests.integration.conftest import Copier, Project, wait_until

POLICY: dict[str, Any] = {
    "tasks": {
        "reports.work": {"significant_kwargs": ["x"], "debounce": 2},
        "reports.cached": {"significant_kwargs": ["x"]},
        "reports.buffered": {"significant_kwargs": ["x"], "on_duplicate": "buffer_one"},
        "reports.turns": {"significant_kwargs": ["x"]},
    }
}


@pytest.fixture(scope="module", params=["redis", "sqlite"])
def timed(request: pytest.FixtureRequest, start_project: Any) -> Project:
    project: Project = start_project(request.param, jobtastic_policy=POLICY)
    project.worker(concurrency=6)
    return project


@pytest.fixture(scope="module")
def narrow(start_project: Any) -> Project:
    """Its worker has one slot, and reserves nothing."""
    project: Project = start_project(jobtastic_policy=POLICY, worker_prefetch_multiplier=1)
    project.worker(concurrency=1)
    return project


@contextmanager
def long_ago() -> Iterator[None]:
    """Let the calls of what is sent be two hours old."""

    def see(headers: dict[str, Any], **_: Any) -> None:
        headers["jobtastic"]["since"] -= 2 * 3_600_000

    before_task_publish.connect(see)
    try:
        yield
    finally:
        before_task_publish.disconnect(see)


def began(project: Project, name: str, x: str) -> list[dict[str, Any]]:
    return [line for line in project.notes.read(name) if line["x"] == x]


@pytest.mark.parametrize("how", ["countdown", "eta"])
def test_a_longer_wait_of_a_named_call_puts_off_what_it_joins(
    timed: Project, unique: str, how: str
) -> None:
    work, asked = timed.task("work"), time.time()
    first = work.delay(unique, delay=0)
    eta = datetime.now(timezone.utc) + timedelta(seconds=3)
    wait: dict[str, Any] = {"countdown": 3} if how == "countdown" else {"eta": eta}
    longer = work.apply_async((unique,), {"delay": 0}, task_id=f"{unique}-longer", **wait)
    sooner = work.apply_async((unique,), {"delay": 0}, task_id=f"{unique}-sooner", countdown=0.1)
    assert (longer.id, sooner.id) == (f"{unique}-longer", f"{unique}-sooner")
    for one in (first, longer, sooner):
        assert one.get(timeout=60) == {"x": unique, "y": 1}
    (run,) = began(timed, "work", unique)
    assert (run["id"], run["at"] >= asked + 3) == (first.id, True)


def test_a_refresh_starts_now_whatever_its_countdown(timed: Project, unique: str) -> None:
    again = timed.task("work").apply_async((unique,), {"delay": 0}, refresh=True, countdown=600)
    assert again.get(timeout=60) == {"x": unique, "y": 1}


def test_a_named_call_that_joins_a_wait_does_not_expire(timed: Project, unique: str) -> None:
    work = timed.task("work")
    first = work.apply_async((unique,), {"delay": 0}, countdown=3)
    named = work.apply_async((unique,), {"delay": 0}, task_id=f"{unique}-named", expires=0.5)
    assert named.get(timeout=60) == first.get(timeout=60) == {"x": unique, "y": 1}
    assert timed.runs("work", unique) == 1


def test_a_named_call_during_a_run_waits_as_it_asks(timed: Project, unique: str) -> None:
    work = timed.task("work")
    with timed.gate(unique) as gate:
        work.apply_async((unique,), {"gate": gate}, refresh=True)
        wait_until(lambda: timed.runs("work", unique))
        asked = time.time()
        named = work.apply_async((unique,), {"delay": 0}, task_id=f"{unique}-named", countdown=4)
        assert named.decision == "buffered"
        plain = work.delay(unique, delay=0)
    assert (plain.decision, plain.id) == ("debounced", named.id)
    assert plain.get(timeout=60) == {"x": unique, "y": 1}
    assert began(timed, "work", unique)[1]["at"] >= asked + 4
    assert timed.runs("work", unique) == 2


def test_a_named_call_that_a_worker_has_in_time_is_served_after_it_expires(
    timed: Project, unique: str
) -> None:
    turns = timed.task("turns")
    with timed.gate(unique) as gate:
        first = turns.delay(unique, gate=gate)
        wait_until(lambda: timed.runs("turns", unique))
        over = time.time() + 3
        named = turns.apply_async((unique,), task_id=f"{unique}-named", expires=3)
        wait_until(lambda: timed.says(f"[{named.id}] waits: "))
        wait_until(lambda: time.time() > over + 0.1)
    assert named.get(timeout=60) == first.get(timeout=60) == unique
    assert timed.runs("turns", unique) == 1


def test_a_countdown_that_ends_after_the_run_is_a_run_of_its_own(
    timed: Project, unique: str
) -> None:
    cached, asked = timed.task("cached"), time.time()
    first = cached.delay(unique, delay=0)
    later = cached.apply_async((unique,), {"delay": 0}, task_id=f"{unique}-named", countdown=2)
    assert later.get(timeout=60)["at"] > first.get(timeout=60)["at"]
    assert began(timed, "cached", unique)[1]["at"] >= asked + 2


@pytest.mark.parametrize("refresh", [False, True], ids=["buffered", "refresh"])
def test_what_others_wait_for_does_not_expire(narrow: Project, unique: str, refresh: bool) -> None:
    """It waits for the end of a run, and a call without `expires` was given its id."""
    name = "turns" if refresh else "buffered"
    task = narrow.task(name)
    with narrow.gate(unique) as gate:
        task.delay(unique, gate=gate)
        wait_until(lambda: narrow.runs(name, unique))
        expires = task.apply_async((unique,), expires=1, refresh=refresh)
        assert expires.decision == ("refreshed" if refresh else "buffered")
        joins = task.apply_async((unique,), refresh=refresh)
        assert joins.id == expires.id
        time.sleep(1.5)
    joins.get(timeout=60)
    assert narrow.runs(name, unique) == 2


@pytest.mark.parametrize("how", ["chain", "chord", "link"])
def test_what_hangs_on_a_call_goes_on_after_another_has_hastened_it(
    timed: Project, unique: str, how: str
) -> None:
    work, tail = timed.task("work"), timed.task("tail")
    first, after = work.si(unique, delay=0).set(countdown=3), tail.s(unique)
    if how == "link":
        first.apply_async(link=after)
    else:
        (chain(first, after) if how == "chain" else chord([first], after)).apply_async()
    now = work.apply_async((unique,), {"delay": 0}, refresh=True)
    assert now.get(timeout=60) == {"x": unique, "y": 1}
    wait_until(lambda: began(timed, "tail", unique))
    assert timed.runs("work", unique) == 1


def test_a_message_whose_end_is_forgotten_does_not_run_again(timed: Project, unique: str) -> None:
    """The store remembers an end for an hour; a countdown may be longer."""
    work, tail = timed.task("work"), timed.task("tail")

    with long_ago():
        first = work.apply_async((unique,), {"delay": 0}, countdown=4, link=tail.s(unique))
    now = work.apply_async((unique,), {"delay": 0}, refresh=True)
    assert (now.id, now.get(timeout=60)) == (first.id, {"x": unique, "y": 1})
    wait_until(lambda: timed.claim("work", unique).holder is None)
    work.forget(unique)
    wait_until(lambda: began(timed, "tail", unique))
    assert timed.runs("work", unique) == 1


def test_a_message_of_old_runs_if_it_has_not(timed: Project, unique: str) -> None:
    """Also if its id has a result, of an earlier call: the store knows that it waits."""
    work, named = timed.task("work"), f"{unique}-named"

    with long_ago():
        for runs in (1, 2):
            work.apply_async((unique,), {"delay": 0}, task_id=named)
            wait_until(lambda runs=runs: timed.runs("work", unique) == runs)
            wait_until(lambda: timed.claim("work", unique).holder is None)


def test_a_retry_of_old_runs_although_its_child_was_lost(timed: Project, unique: str) -> None:
    """It was killed after it had sent the retry, and Celery has stored that it failed."""
    cached = timed.task("cached")
    with long_ago(), Copier(timed) as sent:
        first = cached.delay(unique, delay=0)
    first.get(timeout=60)
    wait_until(lambda: timed.claim("cached", unique).holder is None)
    cached.forget(unique)
    timed.app.backend.forget(first.id)
    timed.app.backend.store_result(first.id, WorkerLostError("killed"), "FAILURE")
    timed.app.send_task(
        cached.name,
        (unique,),
        {"delay": 0},
        task_id=first.id,
        retries=1,
        headers={"jobtastic": sent.message["headers"]["jobtastic"]},
    )
    wait_until(lambda: timed.runs("cached", unique) == 2)


def test_a_named_refresh_starts_now_and_serves_what_waits(timed: Project, unique: str) -> None:
    work, tail = timed.task("work"), timed.task("tail")
    first = work.apply_async((unique,), {"delay": 0}, countdown=5, link=tail.s(unique))
    named = work.apply_async((unique,), {"delay": 0}, task_id=f"{unique}-named", refresh=True)
    assert named.get(timeout=60) == first.get(timeout=60) == {"x": unique, "y": 1}
    wait_until(lambda: began(timed, "tail", unique))
    (run,) = began(timed, "work", unique)
    assert run["id"] == named.id


def test_without_results_a_message_that_was_outrun_finds_that_it_has_run(
    start_project: Any, unique: str
) -> None:
    """Nothing but the claim knows it, until after the message comes: in hours, perhaps."""
    project: Project = start_project(jobtastic_policy=POLICY, task_ignore_result=True)
    project.worker()
    work, tail, other = project.task("work"), project.task("tail"), f"{unique}-other"
    asked = time.time()
    for x, countdown in ((unique, 4), (other, 7_200)):
        after = tail.si(None, x)
        first = work.apply_async((x,), {"delay": 0}, countdown=countdown, link=after)
        assert work.apply_async((x,), {"delay": 0}, refresh=True).id == first.id
        wait_until(lambda x=x: project.runs("work", x) == 1)
        wait_until(lambda x=x: project.claim("work", x).holder is None)
        assert project.claim("work", x).value.kept >= (asked + countdown + 3_600) * 1000
    wait_until(lambda: began(project, "tail", unique), why="its message has come")
    assert (project.runs("work", unique), project.runs("work", other)) == (1, 1)
