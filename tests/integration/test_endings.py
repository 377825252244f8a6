"""However a run ends, the next identical call is served.

celery-once, celery-singleton and jobtastic go on refusing or joining after a kill or a revoke,
until their lock's time is over.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import celery
import pytest
import redis
from celery import chord
from celery.exceptions import (
    NotRegistered,
    Reject,
    TaskRevokedError,
    TimeLimitExceeded,
    WorkerLostError,
)
from celery.result import AsyncResult

from jobtastic_ext import StoreUnavailable
from tests.integration.conftest import Project, wait_until
from tests.workers import Worker

TIMEOUT = 60

#: Longest that "at once" may take where another process has to notice something first, on a busy
#: machine: less than `herd_avoidance_timeout`.
AT_ONCE = 20.0


def is_free(project: Project, name: str, *args: Any) -> bool:
    claim = project.claim(name, *args)
    # What is brief and over only remembers whom the next run is to serve.
    return claim is None or claim.holder is None or (claim.holder.expires and not claim.holder.run)


@contextmanager
def all_slots_busy(project: Project, unique: str) -> Iterator[None]:
    with project.gate(unique) as gate:
        for _ in range(4):
            project.task("plain").delay(unique, gate=gate)
        wait_until(lambda: project.runs("plain", unique) == 4)
        yield


def test_a_message_that_expires(project: Project, unique: str) -> None:
    # Celery drops it without running the task: only `task_revoked` fires, in the main process.
    work = project.task("work")
    with all_slots_busy(project, unique):
        first = work.apply_async((unique,), expires=0.2)
        time.sleep(0.2)
    with pytest.raises(TaskRevokedError):
        first.get(timeout=TIMEOUT)
    second = work.delay(unique)
    assert second.id != first.id
    assert second.get(timeout=TIMEOUT)["x"] == unique


def test_a_message_that_expires_unseen(start_project: Any, unique: str) -> None:
    # A broker may drop an expired message by itself: no worker ever sees it.
    project = start_project()
    work = project.task("work")
    first = work.apply_async((unique,), expires=3)
    assert work.apply_async((unique,), expires=1).id == first.id
    wait_until(lambda: work.apply_async((unique,), expires=1).id != first.id)


def test_a_message_that_expires_is_not_joined_by_a_call_that_does_not(
    start_project: Any, unique: str
) -> None:
    project = start_project()
    work = project.task("work")
    first = work.apply_async((unique,), expires=30)
    second = work.delay(unique)
    assert second.id != first.id
    project.worker(concurrency=2)
    assert second.get(timeout=TIMEOUT) == first.get(timeout=TIMEOUT) == {"x": unique, "y": 1}
    assert project.runs("work", unique) == 1


def test_revoke_before_the_start(project: Project, unique: str) -> None:
    work = project.task("work")
    with all_slots_busy(project, unique):
        first = work.delay(unique)
        wait_until(lambda: project.says(f"[{first.id}] received"))
        first.revoke()
        wait_until(lambda: is_free(project, "work", unique), AT_ONCE)
        second = work.delay(unique)
    assert second.id != first.id
    with pytest.raises(TaskRevokedError):
        first.get(timeout=TIMEOUT)
    assert second.get(timeout=TIMEOUT)["x"] == unique
    assert project.runs("work", unique) == 1


def test_revoke_with_terminate(project: Project, unique: str) -> None:
    work = project.task("work")
    with project.gate(unique) as gate:
        first = work.delay(unique, gate=gate)
        wait_until(lambda: project.runs("work", unique) == 1)
        first.revoke(terminate=True)
        with pytest.raises(TaskRevokedError):
            first.get(timeout=TIMEOUT)
    wait_until(lambda: is_free(project, "work", unique), AT_ONCE)
    second = work.delay(unique, delay=0)
    assert second.id != first.id
    assert second.get(timeout=TIMEOUT)["x"] == unique


@pytest.mark.parametrize(("name", "error"), [("limited", TimeLimitExceeded), ("softly", Exception)])
def test_a_time_limit(project: Project, unique: str, name: str, error: type[Exception]) -> None:
    task = project.task(name)
    first = task.delay(unique)
    with pytest.raises(error):
        first.get(timeout=TIMEOUT)
    wait_until(lambda: is_free(project, name, unique), AT_ONCE)
    second = task.delay(unique)
    assert second.id != first.id
    with pytest.raises(error):
        second.get(timeout=TIMEOUT)
    assert project.runs(name, unique) == 2


def test_a_rejected_message(project: Project, unique: str) -> None:
    refused = project.task("refused")
    first = refused.delay(unique)
    wait_until(lambda: project.runs("refused", unique) == 1)
    wait_until(lambda: is_free(project, "refused", unique), AT_ONCE)
    assert refused.delay(unique).id != first.id


def test_a_retry_that_cannot_be_sent(project: Project, unique: str) -> None:
    # `Task.retry` then rejects the task for ever.  Before Celery 5.7 its id gets no state: who
    # joined it is served by the next run.
    unsent = project.task("unsent")
    with project.gate(unique) as gate:
        first = unsent.delay(unique, gate=gate)
        wait_until(lambda: project.runs("unsent", unique) == 1)
        assert unsent.delay(unique, gate=gate).id == first.id
    wait_until(lambda: is_free(project, "unsent", unique, gate), AT_ONCE)
    second = unsent.delay(unique, gate=gate)
    assert second.id != first.id
    assert second.get(timeout=TIMEOUT) == 2
    if celery.VERSION >= (5, 7):
        with pytest.raises(Reject):
            first.get(timeout=TIMEOUT)
    else:
        assert first.get(timeout=TIMEOUT) == 2


def test_a_killed_pool_child(project: Project, unique: str) -> None:
    work = project.task("work")
    with project.gate(unique) as gate:
        first = work.delay(unique, gate=gate)
        line = wait_until(lambda: [n for n in project.notes.read("work") if n["x"] == unique])[0]
        # By this the main process frees the run of that child, and of no other.
        assert f".{line['pid']:x}." in project.claim("work", unique).holder.run
        os.kill(line["pid"], signal.SIGKILL)
        with pytest.raises(WorkerLostError):
            first.get(timeout=TIMEOUT)
    wait_until(lambda: is_free(project, "work", unique), AT_ONCE)
    second = work.delay(unique, delay=0)
    assert second.id != first.id
    assert second.get(timeout=TIMEOUT)["x"] == unique


def test_a_killed_pool_child_of_a_task_that_is_requeued(project: Project, unique: str) -> None:
    # With reject_on_worker_lost the message goes back to the queue and no signal fires at all.
    late = project.task("late")
    with project.gate(unique) as gate:
        first = late.delay(unique, gate=gate)
        line = wait_until(lambda: [n for n in project.notes.read("late") if n["x"] == unique])[0]
        until = project.claim("late", unique, gate=gate).holder.until
        # The keeper knows the run then.
        wait_until(lambda: project.claim("late", unique, gate=gate).holder.until > until)
        os.kill(line["pid"], signal.SIGKILL)
    assert first.get(timeout=TIMEOUT) == unique
    assert project.runs("late", unique) == 2
    assert sum(n["x"] == unique for n in project.notes.read("late", event="end")) == 1


@pytest.mark.parametrize("store", ["redis", "sqlite"])
def test_a_killed_worker_and_those_who_had_joined_its_run(
    start_project: Any, unique: str, store: str
) -> None:
    project = start_project(store)
    lease = project.conf["jobtastic_lease"]
    doomed = project.worker(concurrency=1)
    work = project.task("work")
    joined = [work.delay(unique, delay=60) for _ in range(3)]  # it does not end by itself
    assert len({result.id for result in joined}) == 1
    wait_until(lambda: project.runs("work", unique) == 1)
    time.sleep(lease + 1)  # longer than the lease: it lives by being renewed
    assert work.delay(unique).id == joined[0].id
    assert project.runs("work", unique) == 1
    killed = time.monotonic()
    doomed.kill()
    project.worker(concurrency=1)
    ids = []
    while not joined[0].ready():
        ids.append(work.delay(unique, delay=0.1).id)
        assert time.monotonic() - killed < TIMEOUT
        time.sleep(0.1)
    last = ids.pop()  # it may have been called just after the end
    assert set(ids) == {joined[0].id}, "callers of the dead run and later ones share one id"
    for task_id in (joined[0].id, last):
        assert project.app.AsyncResult(task_id).get(timeout=TIMEOUT)["x"] == unique
    assert project.runs("work", unique) == 2 + (last != joined[0].id)


def test_the_first_call_after_the_lease_of_a_killed_worker_begins_the_second_run(
    start_project: Any, unique: str
) -> None:
    project = start_project()
    doomed = project.worker(concurrency=1)
    work = project.task("work")
    work.delay(unique, delay=60)
    wait_until(lambda: project.runs("work", unique) == 1)
    project.worker(concurrency=1)
    doomed.kill()
    until = project.claim("work", unique).holder.until / 1000
    assert until <= time.time() + project.conf["jobtastic_lease"]
    assert work.delay(unique, delay=0).decision == "joined"
    time.sleep(until - time.time() + 0.01)
    assert work.delay(unique, delay=0).decision == "published"
    wait_until(lambda: project.runs("work", unique) == 2)


def with_a_dead_run(start_project: Any, unique: str) -> tuple[Project, AsyncResult]:
    """A project whose only worker was killed in a run, and the lease of that is over."""
    project = start_project()
    doomed = project.worker(concurrency=1)
    dead = project.task("work").delay(unique, delay=60)
    wait_until(lambda: project.runs("work", unique) == 1)
    doomed.kill()
    time.sleep(project.conf["jobtastic_lease"] + 0.5)
    return project, dead


def test_a_pinned_call_that_takes_over_serves_those_who_joined_the_dead_run(
    start_project: Any, unique: str
) -> None:
    project, dead = with_a_dead_run(start_project, unique)
    work = project.task("work")
    project.worker(concurrency=2)
    pinned = work.apply_async((unique,), {"delay": 0.2}, task_id=f"pinned-{unique}")
    assert pinned.get(timeout=TIMEOUT)["x"] == unique
    assert dead.get(timeout=TIMEOUT)["x"] == unique


def test_a_run_that_was_forgotten_serves_those_who_joined_the_dead_run(
    start_project: Any, unique: str
) -> None:
    # Nobody calls again: there is no later run that would serve them.
    project, dead = with_a_dead_run(start_project, unique)
    work = project.task("work")
    project.worker(concurrency=1)
    gate = f"gate-{unique}"
    pinned = work.apply_async((unique,), {"delay": 0, "gate": gate}, task_id=f"pinned-{unique}")
    wait_until(lambda: project.runs("work", unique) == 2)
    assert work.forget(unique)
    project.notes.open(gate)
    assert pinned.get(timeout=TIMEOUT)["x"] == unique
    assert dead.get(timeout=TIMEOUT)["x"] == unique
    assert project.runs("work", unique) == 2


def test_the_late_end_of_a_run_that_lost_its_claim(start_project: Any, unique: str) -> None:
    # A worker stopped for longer than its lease: a second run begins, then the first one ends.
    project = start_project()
    paused = project.worker(concurrency=1)
    cached = project.task("cached")
    cached.delay(unique, gate=f"{unique}-first")
    wait_until(lambda: project.runs("cached", unique) == 1)
    os.killpg(paused.process.pid, signal.SIGSTOP)
    time.sleep(project.conf["jobtastic_lease"] + 0.5)
    project.worker(concurrency=1)
    with project.gate(unique) as gate:
        second = cached.delay(unique, gate=gate)
        wait_until(lambda: project.runs("cached", unique) == 2)
        holder = project.claim("cached", unique).holder
        project.notes.open(f"{unique}-first")
        os.killpg(paused.process.pid, signal.SIGCONT)
        wait_until(lambda: "lost its claim" in paused.output())
        after = project.claim("cached", unique)
    assert after.holder.run == holder.run
    assert after.value is None
    assert second.get(timeout=TIMEOUT)["x"] == unique
    assert project.runs("cached", unique) == 2


@pytest.fixture(scope="module")
def unserved(start_project: Any) -> Project:
    """A project that has no worker of its own, and is harmed by nobody's store."""
    policy = {
        "tasks": {"reports.work": {"herd_avoidance_timeout": "1h", "on_store_error": "raise"}}
    }
    project: Project = start_project(jobtastic_policy=policy)
    return project


@pytest.mark.parametrize(
    ("conf", "error"),
    [
        ({"without_plugin": True}, None),  # a rolling deploy: the web processes came first
        ({"without_tasks": ["reports.work"]}, NotRegistered),
        ({"jobtastic_store": "redis://127.0.0.1:1/0"}, StoreUnavailable),
    ],
    ids=["a worker without the plugin", "an unknown task", "a worker that has no store"],
)
def test_a_message_that_ends_and_nobody_says_so(
    unserved: Project, unique: str, conf: dict[str, Any], error: type[Exception] | None
) -> None:
    # Celery stores the outcome, and the claim says "queued" for ever.
    work = unserved.task("work")
    with Worker({**unserved.conf, **conf}, concurrency=1):
        first = work.delay(unique, delay=0)
        if error is None:
            assert first.get(timeout=TIMEOUT)["x"] == unique
        else:
            with pytest.raises(error):
                first.get(timeout=TIMEOUT)
        second = wait_until(
            lambda: (again := work.delay(unique, delay=0)).id != first.id and again, AT_ONCE
        )
        if error is None:
            assert second.get(timeout=TIMEOUT)["x"] == unique


def test_a_message_that_is_lost(start_project: Any, unique: str) -> None:
    # `celery purge`, or a broker that was wiped: Celery's own call would be lost, but the next not.
    policy = {"tasks": {"reports.work": {"herd_avoidance_timeout": "forever"}}}
    project = start_project(jobtastic_policy=policy)
    work = project.task("work")
    first = work.delay(unique, delay=0)
    assert project.app.control.purge() == 1
    project.worker(concurrency=1)
    wait_until(lambda: work.delay(unique, delay=0) and first.ready(), TIMEOUT)
    assert first.get(timeout=TIMEOUT)["x"] == unique
    assert [line["id"] for line in project.notes.read("work")].count(first.id) == 1


def test_a_message_that_waits_in_a_long_queue_runs_once(start_project: Any, unique: str) -> None:
    # It may be lost for all that its callers know: they send few copies, and none of them runs.
    project = start_project(jobtastic_lease=0.5)
    worker = project.worker(concurrency=1)
    work, ids, began = project.task("work"), [], time.monotonic()
    with project.gate(unique) as gate:
        project.task("plain").delay(unique, gate=gate)
        wait_until(lambda: project.runs("plain", unique))
        while len(ids) < 20 or time.monotonic() - began < 3:
            ids.append(work.delay(unique, delay=0).id)
            time.sleep(0.05)
    (first,) = set(ids)
    assert work.AsyncResult(first).get(timeout=TIMEOUT)["x"] == unique
    last = project.task("plain").delay(f"{unique}-last")
    assert last.get(timeout=TIMEOUT)
    assert project.runs("work", unique) == 1
    assert 1 <= worker.output().count("it has run already") <= 6


def test_no_key_without_an_end(start_project: Any, unique: str) -> None:
    forever = {"herd_avoidance_timeout": "forever", "significant_kwargs": ["x"]}
    other = start_project(jobtastic_policy={"tasks": {"reports.work": forever}})
    client = redis.Redis.from_url(other.conf["jobtastic_store"])
    prefix = other.conf["jobtastic_key_prefix"]

    def lives() -> list[int]:
        return [client.ttl(key) for key in client.scan_iter(f"{prefix}:*") if b"%" not in key]

    first = other.task("work").delay(unique, delay=0)
    assert [0 < life < 7200 for life in lives()] == [True], "queued"
    other.worker(concurrency=1)
    first.get(timeout=TIMEOUT)
    wait_until(lambda: other.claim("work", unique).holder is None)
    assert [0 < life < 7200 for life in lives()] == [True], "ended"
    client.close()


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_a_warm_shutdown_keeps_the_run_that_it_waits_for(
    start_project: Any, unique: str, pool: str
) -> None:
    # SIGTERM: the worker lets its runs end, for longer than a lease.
    project = start_project()
    leaving = project.worker(concurrency=2, pool=pool)
    work = project.task("work")
    with project.gate(unique) as gate:
        first = work.delay(unique, gate=gate)
        wait_until(lambda: project.runs("work", unique) == 1)
        leaving.process.terminate()
        project.worker(concurrency=1)
        time.sleep(project.conf["jobtastic_lease"])
        assert work.delay(unique, delay=0).id == first.id
    wait_until(lambda: work.delay(unique, delay=0).id != first.id, TIMEOUT)
    assert first.ready(), "it was joined until its end"
    assert first.get(timeout=TIMEOUT)["x"] == unique
    assert [line["id"] for line in project.notes.read("work")].count(first.id) == 1


@pytest.mark.parametrize("name", ["work", "late"])
def test_a_cold_shutdown_leaves_nobody_waiting(start_project: Any, unique: str, name: str) -> None:
    # SIGQUIT: the runs are cut off.  With acks_late the broker has the message yet.
    project = start_project(
        broker_transport_options={"visibility_timeout": 3, "unacked_restore_limit": 10}
    )
    leaving = project.worker(concurrency=1)
    task = project.task(name)
    first = task.delay(unique, delay=60)
    wait_until(lambda: project.runs(name, unique) == 1)
    leaving.process.send_signal(signal.SIGQUIT)
    leaving.process.wait(TIMEOUT)
    project.worker(concurrency=2)
    answers = [first]

    def is_served() -> bool:
        answers.append(task.delay(unique, delay=0))
        return any(each.ready() for each in answers[-2:])  # the last may have begun a run just now

    wait_until(is_served, TIMEOUT)
    assert project.runs(name, unique) >= 2


def test_a_task_that_replaces_itself_lets_go(project: Project, unique: str) -> None:
    steps_aside = project.task("steps_aside")
    first = steps_aside.delay(unique)
    assert first.get(timeout=TIMEOUT) == {"x": unique, "y": 1}
    assert steps_aside.delay(unique).get(timeout=TIMEOUT) == {"x": unique, "y": 1}
    assert project.runs("steps_aside", unique) == 2


def test_a_chord_one_of_whose_identical_headers_fails(project: Project, unique: str) -> None:
    # The body is not called, and its errback is, as without sharing.
    fails, tail = project.task("fails"), project.task("tail")
    body = tail.s(unique).on_error(project.task("caught").s())
    # One that is sent after the run has failed would be another call, which runs.
    with project.gate(unique) as gate:
        result = chord([fails.s(unique, gate=gate) for _ in range(3)])(body)
    with pytest.raises(Exception, match="cannot do"):
        result.get(timeout=TIMEOUT)
    wait_until(lambda: [n for n in project.notes.read("caught") if unique in n["x"]])
    assert project.runs("fails", unique) == 1
    assert project.runs("tail", unique) == 0
