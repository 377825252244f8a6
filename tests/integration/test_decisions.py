"""Every decision has a word, and a signal that tells of it where it is made."""

from __future__ import annotations

import os
import signal as os_signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from kombu.exceptions import OperationalError

from jobtastic_ext import signals
from jobtastic_ext.decisions import CALLS, EVENTS, MESSAGES, OUTCOMES
from jobtastic_ext.errors import DuplicateCall
from jobtastic_ext.runtime import runtime_of
from tests.heard import NAMES
from tests.integration.conftest import POLICY, Project, wait_until

TIMEOUT = 30

TASKS = {
    **POLICY["tasks"],
    "reports.work": {"significant_kwargs": ["x"], "on_duplicate": "buffer_one"},
    "reports.unbound": {"shadow": True},
    "reports.add": {"on_broker_error": "fail"},
    "reports.shared": {"debounce": 1.5},
    "reports.late": {"herd_avoidance_timeout": 60},
}


@pytest.fixture(scope="module")
def project(start_project: Callable[..., Project]) -> Project:
    project = start_project(jobtastic_policy={"tasks": TASKS})
    project.worker(app="tests.heard")
    return project


@contextmanager
def hearing() -> Iterator[list[dict[str, Any]]]:
    """What this process hears; each handler raises, which changes nothing."""
    heard: list[dict[str, Any]] = []

    def hear(signal: Any, sender: Any, **what: Any) -> None:
        heard.append({"name": signal.name, "task": sender.name, **what})
        raise RuntimeError("a handler that raises changes nothing")

    for name in NAMES:
        getattr(signals, name).connect(hear)
    try:
        yield heard
    finally:
        for name in NAMES:
            getattr(signals, name).disconnect(hear)


def words(heard: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(each["name"], each["decision"]) for each in heard]


def of_worker(project: Project, name: str, task: str) -> list[dict[str, Any]]:
    return [each for each in project.notes.read(task, "signal") if each["name"] == name]


def test_each_call_is_told_with_the_word_of_its_result(project: Project, unique: str) -> None:
    cached, work = project.task("cached"), project.task("work")
    with hearing() as heard:
        with project.gate(unique) as gate:
            results = [cached.delay(unique, gate=gate) for _ in range(2)]
        results[0].get(timeout=TIMEOUT)
        wait_until(lambda: project.claim("cached", unique).value is not None)
        results += [cached.delay(unique), cached.apply_async((unique,), refresh=True)]
        with project.gate(f"{unique}-work") as gate:
            results.append(work.delay(unique, gate=gate))
            wait_until(lambda: project.runs("work", unique) == 1)
            results += [work.delay(unique), work.delay(unique)]
    assert words(heard) == [
        ("call_published", "published"),
        ("call_joined", "joined"),
        ("call_cached", "cached"),
        ("call_refreshed", "refreshed"),
        ("call_published", "published"),
        ("call_buffered", "buffered"),
        ("call_joined", "joined"),
    ]
    assert [each["decision"] for each in heard] == [result.decision for result in results]
    assert [each["task_id"] for each in heard] == [result.id for result in results]
    assert {each["args"] for each in heard} == {(unique,)}
    assert all(each["key"] for each in heard)


def test_debounced_calls_share_the_run_that_waits(project: Project, unique: str) -> None:
    shared = project.task("shared")
    with hearing() as heard:
        results = [shared.delay(unique) for _ in range(3)]
    assert words(heard) == [
        ("call_published", "published"),
        ("call_debounced", "debounced"),
        ("call_debounced", "debounced"),
    ]
    assert {each["task_id"] for each in heard} == {result.id for result in results}
    assert results[0].get(timeout=TIMEOUT) == {"x": unique}


def test_a_stale_answer_and_its_refresh(project: Project, unique: str) -> None:
    brief = project.task("brief")
    first = brief.delay(unique)
    first.get(timeout=TIMEOUT)
    wait_until(lambda: project.claim("brief", unique).value is not None)
    wait_until(lambda: project.claim("brief", unique).value.fresh <= store_time(project))
    with hearing() as heard:
        second = brief.delay(unique)
    assert second.decision == "stale"
    assert words(heard) == [
        ("call_cached", "stale"),
        ("call_refreshed", "stale"),
        ("call_stale", "stale"),
    ]
    assert heard[1]["task_id"] != first.id == heard[2]["task_id"]


def store_time(project: Project) -> int:
    runtime = runtime_of(project.app)
    assert runtime is not None
    return runtime.store.look("nothing")[1]


def test_refused_observed_and_fallback(
    project: Project, unique: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone, unbound, add = (project.task(name) for name in ("alone", "unbound", "add"))
    with hearing() as heard, project.gate(unique) as gate:
        first = alone.delay(unique, gate=gate)
        with pytest.raises(DuplicateCall):
            alone.delay(unique, gate=gate)
    assert words(heard) == [("call_published", "published"), ("call_refused", "refused")]
    assert heard[1]["task_id"] == first.id

    with hearing() as heard, project.gate(f"{unique}-unbound") as gate:
        for _ in range(2):
            unbound.delay(unique, gate=gate)
    assert words(heard) == [
        ("call_observed", "published"),
        ("call_published", "published"),
        ("call_observed", "joined"),
        ("call_published", "published"),
    ]

    def down(*_: Any, **__: Any) -> None:
        raise OperationalError("down")

    monkeypatch.setattr("jobtastic_ext.caller.sending.Sending.send", down)
    with hearing() as heard:
        assert add.delay(1, 2).decision == "fallback"
        assert project.task("plain").delay_or_fail(unique).decision == "fallback"
    assert [each["name"] for each in heard] == ["broker_failed", "call_fallback", "broker_failed"]


def test_the_worker_tells_of_each_message_and_each_run(project: Project, unique: str) -> None:
    late, fails = project.task("late"), project.task("fails")
    with project.gate(unique) as gate:
        first = late.delay(unique, gate=gate)
        (run,) = wait_until(lambda: [x for x in project.notes.read("late") if x["x"] == unique])
        second = late.apply_async((unique,), {"gate": gate}, task_id=f"own-{unique}")
        wait_until(lambda: project.says(f"[{second.id}] waits: "))
        held = time.time() - run["at"]
    assert second.get(timeout=TIMEOUT) == first.get(timeout=TIMEOUT) == unique

    def told(name: str, task_id: str, task: str = "late") -> list[dict[str, Any]]:
        return [each for each in of_worker(project, name, task) if each["task_id"] == task_id]

    (ended,) = wait_until(lambda: told("run_ended", first.id))
    assert ended["outcome"] == "succeeded"
    assert held <= ended["seconds"] < held + 30
    (started,) = told("run_started", first.id)
    assert 0 <= started["waited"] < 30
    for name in ("run_waits", "run_reused"):
        (waits,) = wait_until(lambda name=name: told(name, second.id))
        assert waits["other"] == first.id
    assert told("run_started", second.id) == []

    failed = fails.delay(unique)
    wait_until(lambda: failed.state == "FAILURE")
    (ended,) = wait_until(lambda: told("run_ended", failed.id, "fails"))
    assert ended["outcome"] == "failed"


def test_a_killed_child_is_told_by_the_worker_and_a_dead_run_by_who_takes_over(
    project: Project, unique: str
) -> None:
    based = project.task("based")
    first = based.delay(unique, delay=60)
    (run,) = wait_until(lambda: [x for x in project.notes.read("based") if x["x"] == unique])
    os.kill(run["pid"], os_signal.SIGKILL)
    (lost,) = wait_until(lambda: of_worker(project, "run_lost", "based"))
    assert lost["task_id"] == first.id
    assert lost["key"]

    worker = project.worker(app="tests.heard", arguments=("-Q", f"other-{unique}"))
    dead = based.apply_async((unique, 61), queue=f"other-{unique}")
    wait_until(lambda: project.runs("based", unique) == 2)
    worker.kill()
    with hearing() as heard:
        taken = wait_until(lambda: take_over(based, unique, heard))
    assert taken.id == dead.id
    names = [each["name"] for each in heard]
    assert names[-3:] == ["call_taken_over", "run_freed", "call_published"]
    assert {each["task_id"] for each in heard[-3:]} == {dead.id}
    taken.revoke()


def take_over(task: Any, unique: str, heard: list[dict[str, Any]]) -> Any:
    result = task.apply_async((unique, 61), queue=f"other-{unique}")
    return result if result.decision == "published" else None


def test_the_signals_are_those_of_the_words_and_nobody_listens_by_himself() -> None:
    listed = {each.signal for each in (*CALLS, *MESSAGES, *OUTCOMES, *EVENTS)}
    assert listed == set(signals.__all__)
    for words in (CALLS, MESSAGES):
        assert len({each.word for each in words}) == len({each.signal for each in words})
    for name in listed:
        assert getattr(signals, name).name == name
        assert not getattr(signals, name).receivers, name
