"""What an identical call gets, and when it runs anew."""

from __future__ import annotations

import json
import logging
import time
from typing import Any

import celery
import pytest
from celery import group

from jobtastic_ext import ArgumentNotEncodable, DuplicateCall, signals
from tests.integration.conftest import Project, wait_until
from tests.reports import Flaky

TIMEOUT = 30


def test_positional_keyword_and_defaulted_spellings_share_a_run(
    project: Project, unique: str
) -> None:
    work = project.task("work")
    spellings: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
        ((unique,), {}),
        ((unique, 1), {}),
        ((unique,), {"y": 1}),
        ((), {"x": unique}),
        ((), {"y": 1, "x": unique}),
    ]
    with project.gate(unique) as gate:
        ids = {work.apply_async(args, {**kwargs, "gate": gate}).id for args, kwargs in spellings}
        assert len(ids) == 1
        assert work.delay(unique, note_text="an insignificant argument").id in ids
        different = work.delay(unique, 2)
        assert different.id not in ids
        assert different.get(timeout=TIMEOUT) == {"x": unique, "y": 2}
        assert work.delay(unique, "1").id not in ids
    wait_until(lambda: project.runs("work", unique) == 3)


def test_a_cached_call_returns_at_once_with_its_result_in_hand(
    project: Project, unique: str
) -> None:
    cached = project.task("cached")
    first = cached.delay(unique)
    value = first.get(timeout=TIMEOUT)
    again = wait_until(lambda: (r := cached.delay(unique)).id == first.id and r)
    reads: list[str] = []
    backend = project.app.backend
    original, backend.get = backend.get, lambda key: reads.append(key) or original(key)
    try:
        assert again.get(timeout=TIMEOUT) == value
        assert again.state == "SUCCESS"
    finally:
        backend.get = original
    assert reads == []
    assert project.runs("cached", unique) == 1


def test_without_caching_a_later_call_runs_again(project: Project, unique: str) -> None:
    work = project.task("work")
    first = work.delay(unique)
    first.get(timeout=TIMEOUT)
    second = work.delay(unique)  # at once
    assert second.id != first.id
    second.get(timeout=TIMEOUT)
    assert project.runs("work", unique) == 2


def test_a_failure_is_shared_by_those_who_joined_and_not_cached(
    project: Project, unique: str
) -> None:
    fails = project.task("fails")
    with project.gate(unique) as gate:
        first, joined = (fails.delay(unique, gate=gate) for _ in range(2))
    assert first.id == joined.id
    for result in (first, joined):
        with pytest.raises(Flaky, match=unique):
            result.get(timeout=TIMEOUT)
    again = fails.delay(unique, gate=gate)  # at once: what has been seen to end is not joined
    assert again.id != first.id
    with pytest.raises(Flaky):
        again.get(timeout=TIMEOUT)
    assert project.runs("fails", unique) == 2


def test_retries_keep_one_claim_and_joiners_get_the_value(project: Project, unique: str) -> None:
    # celery-singleton deduplicates a retry against itself: it joins, and is never sent.
    flaky = project.task("flaky")
    with project.gate(unique) as gate:
        first, *joined = (flaky.delay(unique, gate=gate) for _ in range(5))
    while not first.ready():
        joined.append(flaky.delay(unique, gate=gate))
        time.sleep(0.1)
    assert len(joined) > 5
    assert {result.id for result in joined} == {first.id}
    assert joined[-1].get(timeout=TIMEOUT) == {"x": unique, "retries": 2}
    assert [line["retries"] for line in project.notes.read("flaky") if line["x"] == unique] == [
        0,
        1,
        2,
    ]


def test_a_group_of_identical_calls_waits_out_the_retries_of_one(
    project: Project, unique: str
) -> None:
    flaky = project.task("flaky")
    values = group(flaky.s(unique) for _ in range(4)).apply_async().get(timeout=TIMEOUT)
    assert values == [{"x": unique, "retries": 2}] * 4
    assert project.runs("flaky", unique) == 3


def test_a_retry_with_other_arguments_is_another_call(project: Project, unique: str) -> None:
    departs = project.task("departs")
    assert departs.delay(unique).get(timeout=TIMEOUT) == {"x": unique, "final": True}
    wait_until(lambda: (c := project.claim("departs", unique)) is None or c.holder is None)


def test_what_has_been_seen_to_end_is_never_joined(project: Project, unique: str) -> None:
    # The result is stored a moment before `task_postrun`, where the claim is let go.
    work, fails = project.task("work"), project.task("fails")
    ids = set()
    for _ in range(25):
        result = work.delay(unique, delay=0)
        result.get(timeout=TIMEOUT)
        ids.add(result.id)
        result = fails.delay(unique, delay=0)
        with pytest.raises(Flaky):
            result.get(timeout=TIMEOUT)
        ids.add(result.id)
    assert len(ids) == 50
    assert project.runs("work", unique) == project.runs("fails", unique) == 25


def test_a_run_that_outlives_the_herds_time_is_left_alone(start_project: Any, unique: str) -> None:
    policy = {"tasks": {"reports.work": {"herd_avoidance_timeout": 1}}}
    project = start_project(jobtastic_policy=policy)
    project.worker(concurrency=2)
    work = project.task("work")
    with project.gate(unique) as gate:
        first = work.delay(unique, gate=gate)
        wait_until(lambda: project.runs("work", unique) == 1)
        time.sleep(1.2)
        second = work.delay(unique, gate=gate)
        wait_until(lambda: project.runs("work", unique) == 2)
    assert second.id != first.id
    assert first.get(timeout=TIMEOUT) == second.get(timeout=TIMEOUT) == {"x": unique, "y": 1}
    assert project.runs("work", unique) == 2


def test_a_task_that_returns_and_yet_retries(project: Project, unique: str) -> None:
    quiet = project.task("quiet")
    assert quiet.delay(unique).get(timeout=TIMEOUT) == 0
    wait_until(lambda: project.runs("quiet", unique) == 2)


def test_a_body_that_is_never_reached_lets_go(project: Project, unique: str) -> None:
    early = project.task("early")
    first = early.delay(unique)
    with pytest.raises(Flaky):
        first.get(timeout=TIMEOUT)
    wait_until(lambda: early.delay(unique).id != first.id, 30)


def test_refresh_runs_anew_and_replaces_what_is_cached(project: Project, unique: str) -> None:
    cached = project.task("cached")
    old = cached.delay(unique)
    old_value = old.get(timeout=TIMEOUT)
    told: list[str] = []

    def hear(sender: Any, task_id: str, **_: Any) -> None:
        told.append(task_id)

    signals.call_refreshed.connect(hear)
    try:
        new = cached.apply_async((unique,), refresh=True)
    finally:
        signals.call_refreshed.disconnect(hear)
    assert new.id != old.id
    assert told == [new.id]
    assert cached.delay(unique).id == new.id  # whoever comes meanwhile waits for the new one
    new_value = new.get(timeout=TIMEOUT)
    assert new_value["at"] > old_value["at"]
    wait_until(lambda: project.claim("cached", unique).holder is None)
    assert cached.delay(unique).get(timeout=TIMEOUT) == new_value


def test_a_refresh_during_a_run_waits_for_its_end_and_never_runs_beside_it(
    project: Project, unique: str
) -> None:
    cached = project.task("cached")
    with project.gate(unique) as gate:
        running = cached.delay(unique, gate=gate)
        wait_until(lambda: project.runs("cached", unique) == 1)
        first, second = (cached.apply_async((unique,), refresh=True) for _ in range(2))
        assert first.id == second.id != running.id
        assert cached.delay(unique).id == first.id
        wait_until(lambda: project.says(f"[{first.id}] waits: "))
    running_value = running.get(timeout=TIMEOUT)
    new_value = first.get(timeout=TIMEOUT)
    assert new_value["at"] >= running_value["at"] + 0.3
    assert project.runs("cached", unique) == 2
    wait_until(lambda: project.claim("cached", unique).holder is None)
    assert cached.delay(unique).id == first.id


def test_forget_drops_claim_and_result(project: Project, unique: str) -> None:
    cached = project.task("cached")
    first = cached.delay(unique)
    first.get(timeout=TIMEOUT)
    wait_until(lambda: project.claim("cached", unique).value is not None)
    assert cached.forget(unique) is True
    assert cached.forget(unique) is False
    assert cached.delay(unique).id != first.id


@pytest.mark.skipif(celery.VERSION < (5, 7), reason="Celery dumps no pydantic arguments")
def test_forget_of_a_call_with_a_pydantic_argument(start_project: Any, unique: str) -> None:
    # Celery puts a mapping into the message in the place of the model.
    class Point(pytest.importorskip("pydantic").BaseModel):
        x: str

    def typed(point):
        raise NotImplementedError

    typed.__annotations__ = {"point": Point}
    project = start_project(jobtastic_policy={"tasks": {"reports.typed": {}}})
    task = project.app.task(typed, name="reports.typed", pydantic=True, shared=False)
    first = task.delay(Point(x=unique))
    assert task.delay(Point(x=unique)).id == first.id
    assert task.forget(Point(x=unique))
    assert task.delay(Point(x=unique)).id != first.id


def test_a_call_whose_argument_has_no_encoding_is_sent_and_not_shared(
    project: Project, unique: str, caplog: pytest.LogCaptureFixture
) -> None:
    # Celery sends it, nested as it is; only a key cannot be made of it.
    deep: list[Any] = []
    for _ in range(200):
        deep = [deep]
    shared = project.task("shared")
    with caplog.at_level(logging.WARNING, "jobtastic_ext"):
        ones = [shared.apply_async((unique,), {"delay": deep}) for _ in range(2)]
    assert ones[0].id != ones[1].id
    told = [one.getMessage() for one in caplog.records]
    assert len([one for one in told if one.startswith("unshared: reports.shared: ")]) == 1
    assert not shared.forget(unique, delay=deep)
    with pytest.raises(ArgumentNotEncodable):  # never two at once: that cannot be promised
        project.task("turns").delay(deep)


def test_a_stale_result_is_served_while_one_call_refreshes_it(
    project: Project, unique: str
) -> None:
    brief = project.task("brief")
    old = brief.delay(unique, delay=0)
    old_value = old.get(timeout=TIMEOUT)
    wait_until(lambda: project.claim("brief", unique).holder is None)
    time.sleep(1.1)
    with project.gate(unique) as gate:
        served = [brief.delay(unique, gate=gate) for _ in range(5)]
    assert {result.id for result in served} == {old.id}
    assert served[0].get(timeout=TIMEOUT) == old_value
    new = wait_until(lambda: (r := brief.delay(unique)).id != old.id and r)
    assert new.get(timeout=TIMEOUT)["at"] > old_value["at"]
    # The call that was given the new result may have been so late that it began one more.
    ids = [line["id"] for line in project.notes.read("brief") if line["x"] == unique]
    assert ids[:2] == [old.id, new.id]


def test_serialize_runs_all_and_never_two_at_once(project: Project, unique: str) -> None:
    turns = project.task("turns")
    results = [turns.delay(unique) for _ in range(4)]
    assert len({result.id for result in results}) == 4
    assert [result.get(timeout=TIMEOUT) for result in results] == [unique] * 4
    lines = project.notes.client.lrange(project.notes.name, 0, -1)
    events = [line for line in map(json.loads, lines) if line["x"] == unique]
    assert [line["event"] for line in events] == ["run", "end"] * 4
    assert len({line["id"] for line in events}) == 4


def test_raise_tells_who_holds_the_claim(project: Project, unique: str) -> None:
    alone = project.task("alone")
    with project.gate(unique) as gate:
        first = alone.delay(unique, gate=gate)
        with pytest.raises(DuplicateCall) as caught:
            alone.delay(unique, gate=gate)
    assert caught.value.task_id == first.id
    assert first.id in str(caught.value)
    assert first.get(timeout=TIMEOUT) == unique
    wait_until(lambda: project.claim("alone", unique, gate=gate).holder is None)
    assert alone.delay(unique, gate=gate).get(timeout=TIMEOUT) == unique


def test_raise_in_a_group_fails_the_duplicate_and_not_the_group(
    project: Project, unique: str
) -> None:
    alone = project.task("alone")
    with project.gate(unique) as gate:
        result = group(alone.s(unique, gate=gate) for _ in range(2)).apply_async()
        wait_until(lambda: any(part.ready() for part in result.results))
    wait_until(lambda: all(part.ready() for part in result.results))
    assert sorted(part.state for part in result.results) == ["FAILURE", "SUCCESS"]
    failed = next(part for part in result.results if part.state == "FAILURE")
    assert "already under way" in str(failed.result) or "DuplicateCall" in repr(failed.result)
    assert project.runs("alone", unique) == 1


def test_shadow_decides_and_yet_runs_all(
    start_project: Any, unique: str, caplog: pytest.LogCaptureFixture
) -> None:
    project = start_project(jobtastic_policy={"tasks": {"reports.work": {"shadow": True}}})
    project.worker(concurrency=2)
    work = project.task("work")
    with caplog.at_level(logging.INFO, logger="jobtastic_ext"), project.gate(unique) as gate:
        results = [work.delay(unique, gate=gate) for _ in range(3)]
    assert len({result.id for result in results}) == 3
    for result in results:
        result.get(timeout=TIMEOUT)
    assert project.runs("work", unique) == 3
    assert caplog.text.count("would be joined") == 2


def test_a_failure_may_be_shared_for_a_while_and_a_prefix_by_two_tasks(
    start_project: Any, unique: str
) -> None:
    fields = {"cache_prefix": "both", "significant_kwargs": ["x"], "cache_duration": 60}
    policy = {
        "reports.fails": {"failure_cache_duration": 60},
        "reports.cached": fields,
        "reports.brief": fields,
    }
    project = start_project(jobtastic_policy={"tasks": policy})
    project.worker(concurrency=2)
    fails = project.task("fails")
    first = fails.delay(unique)
    for result in (first, fails.delay(unique)):
        with pytest.raises(Flaky):
            result.get(timeout=TIMEOUT)
    wait_until(lambda: project.claim("fails", unique).value is not None)
    assert fails.delay(unique).id == first.id
    with pytest.raises(Flaky):
        group(fails.s(unique), fails.s(unique)).apply_async().get(timeout=TIMEOUT)
    assert project.runs("fails", unique) == 1
    one, other = project.task("cached").delay(unique), project.task("brief").delay(unique)
    assert one.id == other.id
    assert other.get(timeout=TIMEOUT)["x"] == unique


def test_a_result_that_is_gone_is_run_again(project: Project, unique: str) -> None:
    # jobtastic hands out the id all the same, and its caller waits for ever in PENDING.
    cached = project.task("cached")
    first = cached.delay(unique)
    first.get(timeout=TIMEOUT)
    wait_until(lambda: project.claim("cached", unique).value is not None)
    first.forget()
    second = cached.delay(unique)
    assert second.id != first.id
    assert second.get(timeout=TIMEOUT)["x"] == unique
    assert project.runs("cached", unique) == 2


def test_a_countdown_is_published_without_a_claim(project: Project, unique: str) -> None:
    work = project.task("work")
    delayed = work.apply_async((unique,), countdown=1)
    assert work.delay(unique).id != delayed.id
    assert delayed.get(timeout=TIMEOUT)["x"] == unique


def test_every_decision_is_logged_and_told(
    project: Project, unique: str, caplog: pytest.LogCaptureFixture
) -> None:
    cached = project.task("cached")
    told: list[tuple[str, str]] = []

    def joined(sender: Any, task_id: str, **_: Any) -> None:
        told.append(("joined", task_id))
        raise RuntimeError("a handler that raises changes nothing")

    def reused(sender: Any, task_id: str, **_: Any) -> None:
        told.append(("cached", task_id))

    signals.call_joined.connect(joined)
    signals.call_cached.connect(reused)
    try:
        with caplog.at_level(logging.INFO, logger="jobtastic_ext"):
            with project.gate(unique) as gate:
                first = cached.delay(unique, gate=gate)
                assert cached.delay(unique).id == first.id
            first.get(timeout=TIMEOUT)
            wait_until(lambda: project.claim("cached", unique).value is not None)
            assert cached.delay(unique).id == first.id
    finally:
        signals.call_joined.disconnect(joined)
        signals.call_cached.disconnect(reused)
    assert told == [("joined", first.id), ("cached", first.id)]
    lines = [r.getMessage() for r in caplog.records if r.name == "jobtastic_ext"]
    starts = [f"reports.cached[{first.id}] {word}: " for word in ("published", "joined", "cached")]
    for start in starts:
        assert sum(line.startswith(start) for line in lines) == 1, lines
    assert all("(key " in line for line in lines)


def test_a_result_lives_as_long_as_the_cache_says(start_project: Any, unique: str) -> None:
    project = start_project(result_expires=5)
    project.worker(concurrency=1)
    result = project.task("cached").delay(unique, delay=0)
    result.get(timeout=TIMEOUT)
    key = project.app.backend.get_key_for_task(result.id)
    wait_until(lambda: project.app.backend.client.ttl(key) > 500)


def test_a_result_that_is_cached_for_ever_does_not_expire(start_project: Any, unique: str) -> None:
    policy = {"tasks": {"reports.cached": {"cache_duration": "forever"}}}
    project = start_project(jobtastic_policy=policy)
    project.worker(concurrency=1)
    result = project.task("cached").delay(unique, delay=0)
    result.get(timeout=TIMEOUT)
    key = project.app.backend.get_key_for_task(result.id)
    wait_until(lambda: project.app.backend.client.ttl(key) == -1)
