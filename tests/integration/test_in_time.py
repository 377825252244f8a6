"""Calls that wait until it is quiet, and whose arguments a run that waited is given."""

from __future__ import annotations

import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from celery import chain, chord, group
from celery.signals import before_task_publish

from tests.integration.conftest import Project, wait_until

#: Seconds of quiet.
DEBOUNCE = 1.0

RULE: dict[str, Any] = {"significant_kwargs": ["x"], "debounce": DEBOUNCE}

POLICY = {
    "tasks": {
        "reports.work": RULE,
        "reports.plain": {**RULE, "debounce_max": 2.5},
        "reports.noted": {**RULE, "arguments": "last"},
        "reports.buffered": {
            "significant_kwargs": ["x"],
            "on_duplicate": "buffer_one",
            "arguments": "last",
        },
    }
}


@pytest.fixture(scope="module", params=["redis", "sqlite"])
def timed(request: pytest.FixtureRequest, start_project: Any) -> Project:
    project: Project = start_project(request.param, jobtastic_policy=POLICY)
    project.worker()
    return project


def burst(
    call: Callable[[str, int], Any], goes_on: Callable[[str, int], bool], pause: float
) -> tuple[str, list[Any], list[float]]:
    """Make calls between which it is never quiet; with another key where the machine was held up.

    Both functions are told the key and how many calls there were.  Returns the key, the results,
    and when each call was made.
    """
    for _ in range(20):
        key, results, moments, longest = uuid.uuid4().hex, [], [time.time()], 0.0
        while goes_on(key, len(results)):
            before = time.time()
            results.append(call(key, len(results)))
            longest = max(longest, time.time() - moments[-1])
            moments.append(before)
            time.sleep(pause)
        if longest < DEBOUNCE:
            return key, results, moments[1:]
    pytest.fail(f"each of 20 bursts had a pause of {DEBOUNCE} s")


@contextmanager
def published() -> Iterator[Counter[str]]:
    """Count the messages that this process sends, by id."""
    ids: Counter[str] = Counter()

    def see(headers: dict[str, Any], **_: Any) -> None:
        ids[headers["id"]] += 1

    before_task_publish.connect(see)
    try:
        yield ids
    finally:
        before_task_publish.disconnect(see)


def began(project: Project, name: str, x: str) -> list[dict[str, Any]]:
    return [line for line in project.notes.read(name) if line["x"] == x]


def test_a_burst_is_one_run_after_its_last_call(timed: Project) -> None:
    work = timed.task("work")
    with published() as sent:
        key, results, moments = burst(
            lambda key, _: work.delay(key, delay=0), lambda _, made: made < 21, 0.1
        )
    assert [result.decision for result in results] == ["published", *["debounced"] * 20]
    assert len({result.id for result in results}) == 1
    assert sent[results[0].id] == 1
    assert results[0].get(timeout=60) == {"x": key, "y": 1}
    (run,) = began(timed, "work", key)
    assert run["at"] >= moments[-1] + DEBOUNCE
    wait_until(lambda: timed.claim("work", key).holder is None)
    after = work.delay(key, delay=0)
    assert (after.decision, after.id != results[0].id) == ("published", True)
    after.get(timeout=60)
    assert timed.runs("work", key) == 2


def test_calls_that_never_end_are_put_off_for_no_longer_than_the_longest(timed: Project) -> None:
    plain = timed.task("plain")
    end = time.time() + 60

    def goes_on(key: str, _: int) -> bool:
        assert time.time() < end, "it starves"
        return not began(timed, "plain", key)

    key, results, moments = burst(lambda key, _: plain.delay(key), goes_on, 0.05)
    assert results[0].get(timeout=60) == key
    # Not before: the calls did not cease.
    assert began(timed, "plain", key)[0]["at"] >= moments[0] + 2.5


def test_messages_of_other_ways_are_calls_as_well(timed: Project) -> None:
    """As beat sends them, and programs that have never heard of us."""
    work = timed.task("work")

    def call(key: str, number: int) -> Any:
        if number < 6:
            return timed.app.send_task("reports.work", (key,), {"delay": 0})
        return work.delay(key, delay=0)

    key, results, moments = burst(call, lambda _, made: made < 7, 0.3)
    assert results[-1].decision == "debounced"
    assert results[-1].id == results[0].id
    assert [one.get(timeout=60) for one in results] == [{"x": key, "y": 1}] * 7
    (run,) = began(timed, "work", key)
    assert run["at"] >= moments[-1] + DEBOUNCE


@pytest.mark.parametrize("why", ["shadow", "the store is down"])
def test_what_is_not_put_off_is_sent_as_its_caller_said(
    start_project: Any, unique: str, why: str
) -> None:
    rule = {**RULE, "shadow": why == "shadow"}
    down = {} if why == "shadow" else {"jobtastic_store": "redis://127.0.0.1:1/0"}
    project: Project = start_project(jobtastic_policy={"tasks": {"reports.work": rule}}, **down)
    times: list[tuple[bool, bool]] = []

    def see(headers: dict[str, Any], **_: Any) -> None:
        times.append((headers["eta"] is not None, headers["expires"] is not None))

    work = project.task("work")
    before_task_publish.connect(see)
    try:
        for _ in range(2):
            work.delay(unique)
            work.apply_async((unique,), countdown=60, expires=120)
    finally:
        before_task_publish.disconnect(see)
    assert times == [(False, False), (True, True)] * 2


def test_a_longer_countdown_wins(timed: Project, unique: str) -> None:
    work, first = timed.task("work"), time.time()
    result = work.apply_async((unique,), {"delay": 0}, countdown=3)
    assert work.apply_async((unique,), {"delay": 0}, countdown=0.1).id == result.id
    result.get(timeout=60)
    (run,) = began(timed, "work", unique)
    assert run["at"] >= first + 3


def test_refresh_starts_now(timed: Project, unique: str) -> None:
    work = timed.task("work")
    waits = work.apply_async((unique,), {"delay": 0}, countdown=20)
    now = work.apply_async((unique,), {"delay": 0}, refresh=True)
    assert (now.id, now.decision) == (waits.id, "refreshed")
    began_at = time.monotonic()
    now.get(timeout=60)
    assert time.monotonic() - began_at < 15
    again = work.apply_async((unique,), {"delay": 0}, refresh=True)
    again.get(timeout=60)
    assert timed.runs("work", unique) == 2


def test_revoke_ends_the_wait(timed: Project, unique: str) -> None:
    work = timed.task("work")
    waits = work.apply_async((unique,), {"delay": 0}, countdown=30)

    def is_ended() -> bool:
        timed.app.control.revoke(waits.id)
        claim = timed.claim("work", unique)
        return claim is None or claim.holder is None

    wait_until(is_ended)
    after = work.delay(unique, delay=0)
    assert after.id != waits.id
    after.get(timeout=60)
    assert timed.runs("work", unique) == 1


def test_a_call_during_a_run_waits_for_its_own_time_and_for_the_end(
    timed: Project, unique: str
) -> None:
    work = timed.task("work")
    with timed.gate(unique) as gate:
        work.apply_async((unique,), {"gate": gate}, refresh=True)
        wait_until(lambda: timed.runs("work", unique))
        results = [work.delay(unique, delay=0)]
        for _ in range(5):
            time.sleep(0.2)
            last = time.time()
            results.append(work.delay(unique, delay=0))
    assert [one.decision for one in results] == ["buffered", *["debounced"] * 5]
    assert len({one.id for one in results}) == 1
    results[0].get(timeout=60)
    _, run = began(timed, "work", unique)
    assert run["at"] >= last + DEBOUNCE
    time.sleep(DEBOUNCE)
    assert timed.runs("work", unique) == 2


def test_what_hangs_on_a_canvas_takes_the_value_of_the_run(timed: Project, unique: str) -> None:
    work, plain = timed.task("work"), timed.task("plain")
    many = group(work.si(unique, delay=0) for _ in range(3)).apply_async()
    after = chain(work.si(unique, delay=0), plain.si(f"{unique}-after")).apply_async()
    whole = chord([work.si(unique, delay=0) for _ in range(3)])(plain.si(f"{unique}-whole"))
    named = work.apply_async((unique,), {"delay": 0}, task_id=str(uuid.uuid4()))
    assert many.get(timeout=60) == [{"x": unique, "y": 1}] * 3
    assert named.get(timeout=60) == {"x": unique, "y": 1}
    assert after.get(timeout=60) == f"{unique}-after"
    assert whole.get(timeout=60) == f"{unique}-whole"
    assert timed.runs("work", unique) == 1


def test_the_last_caller_s_arguments(timed: Project, unique: str) -> None:
    noted = timed.task("noted")
    results = [noted.delay(unique, text=str(n)) for n in range(20)]
    assert results[-1].get(timeout=60) == "19"
    assert timed.runs("noted", unique) == 1
    # The caller's own way, and that of a message that comes by itself.
    other = f"{unique}-other"
    first = noted.delay(other, text="first")
    timed.app.send_task("reports.noted", (other, "last"))
    assert first.get(timeout=60) == "last"


def test_arguments_that_the_worker_does_not_accept_are_left_out(
    timed: Project, unique: str
) -> None:
    noted = timed.task("noted")
    first = noted.delay(unique, text="first")
    other = noted.apply_async((unique,), {"text": "other"}, serializer="pickle")
    assert other.id == first.id
    assert first.get(timeout=60) == "first"
    wait_until(lambda: timed.claim("noted", unique).holder is None)
    assert noted.delay(unique, text="next").get(timeout=60) == "next"


def test_a_buffered_run_gets_the_last_arguments_and_keeps_them(timed: Project, unique: str) -> None:
    buffered = timed.task("buffered")
    with published() as sent, timed.gate(unique) as gate:
        running = buffered.delay(unique, "running", gate=gate)
        wait_until(lambda: timed.runs("buffered", unique))
        then = {"gate": f"{unique}-then"}
        results = [buffered.delay(unique, str(n), **then) for n in range(1000)]
    assert sent.total() == 2
    assert len({one.id for one in results}) == 1
    assert running.get(timeout=60) == "running"
    with timed.gate(then["gate"]):
        wait_until(lambda: timed.runs("buffered", unique) == 2)
        late = buffered.delay(unique, "late")
    assert results[0].get(timeout=60) == "999"
    assert late.get(timeout=60) == "late"
    assert timed.runs("buffered", unique) == 3
