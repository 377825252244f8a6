"""What was counted is what has happened: compared with the notes of the runs, on each store."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from typing import Any

import pytest
from billiard.exceptions import TimeLimitExceeded
from kombu.exceptions import OperationalError

from jobtastic_ext.counts.tally import PAUSE
from jobtastic_ext.errors import DuplicateCall
from jobtastic_ext.operations.desk import Desk
from jobtastic_ext.operations.savings import Saving
from jobtastic_ext.runtime import runtime_of
from tests.integration.conftest import Project, wait_until
from tests.reports import Flaky
from tests.servers import closed_port

TIMEOUT = 60


def desk_of(project: Project) -> Desk:
    runtime = runtime_of(project.app)
    assert runtime is not None
    return runtime.desk


def saving_of(project: Project, task: str) -> Saving:
    return next(each for each in desk_of(project).savings() if each.task == f"reports.{task}")


def settled(project: Project, task: str, expected: dict[str, int]) -> Saving:
    """Wait until the worker has brought its counts; what is too many never gets fewer."""

    def counted() -> dict[str, int]:
        found = saving_of(project, task)
        return {word: getattr(found, word) for word in expected}

    wait_until(lambda: counted() == expected, TIMEOUT, f"{counted()} are not {expected}")
    return saving_of(project, task)


def test_calls_and_runs_are_counted(either: Project, unique: str) -> None:
    cached = either.task("cached")
    with either.gate(unique) as gate:
        first = [cached.delay(unique, gate=gate) for _ in range(5)]
        time.sleep(0.5)
    assert first[0].get(timeout=TIMEOUT) == first[4].get(timeout=TIMEOUT)
    wait_until(lambda: either.claim("cached", unique).value)
    again = [cached.delay(unique, delay=9.0) for _ in range(3)]
    anew = cached.apply_async((unique,), {"delay": 0}, refresh=True)
    anew.get(timeout=TIMEOUT)
    told = [result.decision for result in [*first, *again, anew]]
    assert told == ["published", *["joined"] * 4, *["cached"] * 3, "refreshed"]
    runs = either.runs("cached", unique)
    found = settled(
        either,
        "cached",
        {"published": 1, "joined": 4, "cached": 3, "refreshed": 1, "runs": runs, "failed": 0},
    )
    assert (found.calls, runs, found.avoided) == (9, 2, 7)
    assert found.hit_rate == pytest.approx(7 / 9, abs=0.001)
    assert found.seconds_per_run
    assert found.seconds_saved == pytest.approx(7 * found.seconds_per_run, rel=0.01)


def test_failures_and_refusals_are_counted(either: Project, unique: str) -> None:
    with pytest.raises(Flaky):
        either.task("fails").delay(unique).get(timeout=TIMEOUT)
    alone = either.task("alone")
    with either.gate(unique) as gate:
        first = alone.delay(unique, gate=gate)
        with pytest.raises(DuplicateCall):
            alone.delay(unique, gate=gate)
    first.get(timeout=TIMEOUT)
    settled(either, "fails", {"calls": 1, "published": 1, "runs": 1, "failed": 1})
    settled(either, "alone", {"calls": 2, "published": 1, "refused": 1, "runs": 1, "failed": 0})


def test_a_time_limit_is_one_failure(project: Project, unique: str) -> None:
    for n in range(2):
        with pytest.raises(TimeLimitExceeded):
            project.task("limited").delay(f"{unique}{n}").get(timeout=TIMEOUT)
    # On a busy machine the second may be over before the body is reached.
    expected = {"calls": 2, "failed": 2, "runs": len(project.notes.read("limited"))}
    settled(project, "limited", expected)
    time.sleep(2 * PAUSE)
    settled(project, "limited", expected)


def test_a_message_that_takes_the_outcome_of_another_run(project: Project, unique: str) -> None:
    work = project.task("work")
    with project.gate(unique) as gate:
        kwargs = {"gate": gate}
        pinned = [work.apply_async((unique,), kwargs, task_id=f"{unique}-{n}") for n in range(3)]
        wait_until(lambda: sum(project.says(f"[{one.id}] waits: ") for one in pinned) == 2)
    for result in pinned:
        result.get(timeout=TIMEOUT)
    assert project.runs("work", unique) == 1
    found = settled(project, "work", {"calls": 3, "published": 3, "runs": 1, "reused": 2})
    assert found.avoided == 2


def test_a_child_that_is_killed(start_project: Callable[..., Project], unique: str) -> None:
    project = start_project()
    project.worker(concurrency=1)
    work = project.task("work")
    for n in range(3):
        work.delay(f"{unique}{n}", delay=0).get(timeout=TIMEOUT)
    result = work.delay(unique, delay=60)
    (line,) = wait_until(lambda: [x for x in project.notes.read("work") if x["x"] == unique])
    os.kill(line["pid"], signal.SIGKILL)
    with pytest.raises(Exception, match="SIGKILL"):
        result.get(timeout=TIMEOUT)
    settled(project, "work", {"calls": 4, "published": 4, "runs": 4, "failed": 1})


def test_a_worker_that_is_killed(start_project: Callable[..., Project], unique: str) -> None:
    project = start_project()
    work = project.task("work")
    with project.worker(concurrency=1) as worker:
        result = work.delay(unique, delay=60)
        wait_until(lambda: project.runs("work", unique))
        settled(project, "work", {"calls": 1, "published": 1, "runs": 1, "failed": 0})
        worker.kill()
    claim = project.claim("work", unique)
    wait_until(lambda: project.claim("work", unique).holder.until < time.time() * 1000)
    assert claim.holder.state == "running"
    again = work.delay(unique, delay=0)
    assert again.id == result.id
    project.worker(concurrency=1)
    again.get(timeout=TIMEOUT)
    settled(
        project,
        "work",
        {"calls": 2, "published": 2, "runs": 2, "taken_over": 1, "freed_by_lease": 1, "failed": 0},
    )


def test_a_worker_that_ends_warmly(start_project: Callable[..., Project], unique: str) -> None:
    """What its children count while it waits for them is brought, too."""
    project = start_project()
    with project.worker(concurrency=2) as worker:
        with project.gate(unique) as gate:
            project.task("fails").delay(unique, gate=gate)
            wait_until(lambda: project.runs("fails", unique))
            worker.process.terminate()
            worker.wait_for("Warm shutdown")
        assert worker.process.wait(60) == 0
    found = saving_of(project, "fails")
    assert (found.runs, found.failed) == (1, 1)


def test_calls_that_cannot_be_sent(start_project: Callable[..., Project], unique: str) -> None:
    policy: dict[str, Any] = {
        "reports.work": {"on_broker_error": "eager"},
        "reports.cached": {"on_broker_error": "fail"},
        "reports.add": {},
    }
    project = start_project(
        broker_url=f"redis://127.0.0.1:{closed_port()}/0",
        jobtastic_policy={"tasks": policy},
        jobtastic_publish_timeout=1,
    )
    for n in range(2):
        assert project.task("work").delay(f"{unique}{n}", delay=0).get()["x"] == f"{unique}{n}"
    assert project.task("cached").delay(unique).state == "FAILURE"
    with pytest.raises(OperationalError):
        project.task("add").apply_async((1,), retry=False)
    settled(project, "work", {"calls": 2, "fallback_eager": 2, "runs": 2, "failed": 0})
    settled(project, "cached", {"calls": 1, "fallback_failed": 1, "runs": 0})
    settled(project, "add", {"calls": 1, "unsent": 1, "runs": 0})


def test_calls_that_are_answered_by_one_more_run(
    start_project: Callable[..., Project], unique: str
) -> None:
    policy = {
        "tasks": {"reports.work": {"on_duplicate": "buffer_one", "significant_kwargs": ["x"]}}
    }
    project = start_project(jobtastic_policy=policy)
    project.worker(concurrency=2)
    work = project.task("work")
    with project.gate(unique) as gate:
        first = work.delay(unique, gate=gate)
        wait_until(lambda: project.runs("work", unique))
        more = [work.delay(unique, delay=0) for _ in range(3)]
    assert [result.decision for result in more] == ["buffered", "joined", "joined"]
    for result in [first, *more]:
        result.get(timeout=TIMEOUT)
    settled(project, "work", {"calls": 4, "published": 1, "buffered": 1, "joined": 2, "runs": 2})


def test_an_old_result_that_is_refreshed(project: Project, unique: str) -> None:
    brief = project.task("brief")
    brief.delay(unique).get(timeout=TIMEOUT)
    wait_until(lambda: project.claim("brief", unique).value)
    wait_until(lambda: project.claim("brief", unique).value.fresh < time.time() * 1000)
    with project.gate(unique) as gate:
        told = [brief.delay(unique, gate=gate).decision for _ in range(3)]
    assert told == ["stale"] * 3
    wait_until(lambda: project.runs("brief", unique) == 2)
    found = settled(project, "brief", {"calls": 4, "stale": 3, "refreshing": 1, "runs": 2})
    assert found.avoided == 2


def test_what_another_language_sends(project: Project, unique: str) -> None:
    before = saving_of(project, "unbound")
    with project.gate(unique) as gate:
        send = project.app.send_task
        sent = [send("reports.unbound", (unique,), {"gate": gate}) for _ in range(3)]
        wait_until(lambda: sum(project.says(f"[{one.id}] waits: ") for one in sent) == 2)
    wait_until(lambda: saving_of(project, "unbound").reused == before.reused + 2)
    found = saving_of(project, "unbound")
    assert (found.calls, found.runs) == (before.calls, before.runs + 1)
    assert found.hit_rate == 1.0, "of those that are known"


def test_what_shadow_would_do(start_project: Callable[..., Project], unique: str) -> None:
    policy: dict[str, Any] = {"tasks": {"reports.cached": {"shadow": True, "cache_duration": "1h"}}}
    project = start_project(jobtastic_policy=policy)
    project.worker()
    cached = project.task("cached")
    with project.gate(unique) as gate:
        results = [cached.delay(unique, gate=gate) for _ in range(3)]
    for result in results:
        result.get(timeout=TIMEOUT)
    wait_until(lambda: project.claim("cached", unique, gate=gate).value)
    cached.delay(unique, gate=gate).get(timeout=TIMEOUT)
    found = settled(project, "cached", {"calls": 4, "published": 4, "runs": 4, "shadow_joined": 2})
    assert found.shadow_cached == 1
    assert (found.avoided, found.seconds_saved) == (0, 0.0)
    assert found.shadow_seconds > 0


def test_shadow_promises_nothing_for_a_refresh(
    start_project: Callable[..., Project], unique: str
) -> None:
    rule = {"shadow": True, "cache_duration": "0.1s", "stale_while_revalidate": "1h"}
    project = start_project(jobtastic_policy={"tasks": {"reports.cached": rule}})
    project.worker(concurrency=1)
    for _ in range(2):
        project.task("cached").delay(unique).get(timeout=TIMEOUT)
        time.sleep(0.5)
    found = settled(project, "cached", {"calls": 2, "runs": 2})
    assert (found.shadow_stale, found.shadow_cached, found.shadow_seconds) == (0, 0, 0.0)
