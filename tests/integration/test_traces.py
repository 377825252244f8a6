"""What a trace tells of a call that shares a run."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider

from jobtastic_ext.contrib import otel
from jobtastic_ext.telling import trace_here
from tests.integration.conftest import POLICY, Project, wait_until

TIMEOUT = 30


@pytest.fixture(scope="module")
def project(start_project: Callable[..., Project]) -> Iterator[Project]:
    project = start_project(jobtastic_policy=POLICY)
    project.worker(app="tests.traced")
    otel.install(project.app)
    otel.install(project.app)
    yield project
    otel.uninstall(project.app)
    assert trace_here(project.app) == ""


@pytest.fixture
def tracer() -> trace.Tracer:
    return TracerProvider().get_tracer("tests")


def test_who_joins_is_linked_to_who_called(
    project: Project, unique: str, tracer: trace.Tracer
) -> None:
    cached = project.task("cached")
    with project.gate(unique) as gate:
        with tracer.start_as_current_span("first") as first:
            result = cached.delay(unique, gate=gate)
        with tracer.start_as_current_span("second") as second:
            assert cached.delay(unique).decision == "joined"
    result.get(timeout=TIMEOUT)
    wait_until(lambda: project.claim("cached", unique).value)
    with tracer.start_as_current_span("third") as third:
        assert cached.delay(unique).decision == "cached"

    for span, word in ((first, "published"), (second, "joined"), (third, "cached")):
        assert isinstance(span, ReadableSpan)
        (event,) = span.events
        assert event.name == f"jobtastic.{word}"
        assert dict(event.attributes or {}) == {
            "messaging.system": "celery",
            "messaging.operation.type": "send",
            "messaging.message.id": result.id,
            "celery.task_name": "reports.cached",
            "jobtastic.decision": word,
        }
        linked = [link.context for link in span.links]
        own = first.get_span_context()
        expected = [] if span is first else [(own.trace_id, own.span_id)]
        assert [(each.trace_id, each.span_id) for each in linked] == expected
    assert unique not in repr([span.to_json() for span in (first, second, third)])  # type: ignore[attr-defined]


def test_a_stale_answer_is_one_event(project: Project, unique: str, tracer: trace.Tracer) -> None:
    brief = project.task("brief")
    with tracer.start_as_current_span("first") as first:
        brief.delay(unique).get(timeout=TIMEOUT)

    def again() -> Any:
        with tracer.start_as_current_span("again") as span:
            brief.delay(unique)
        return span

    def names(span: Any) -> list[str]:
        return [event.name for event in span.events]

    found = wait_until(lambda: (span := again()) and names(span)[-1] == "jobtastic.stale" and span)
    # Its refresh is a run of its own, in the trace of this call; the link is to the old run.
    assert names(found) == ["jobtastic.stale"]
    wait_until(lambda: project.runs("brief", unique) == 2)
    assert [link.context.span_id for link in found.links] == [first.get_span_context().span_id]


def test_the_span_of_a_message_in_a_worker(
    project: Project, unique: str, tracer: trace.Tracer
) -> None:
    late = project.task("late")
    with project.gate(unique) as gate:
        with tracer.start_as_current_span("first") as span:
            first = late.delay(unique, gate=gate)
        wait_until(lambda: project.runs("late", unique) == 1)
        second = late.apply_async((unique,), {"gate": gate}, task_id=f"own-{unique}")
    assert second.get(timeout=TIMEOUT) == first.get(timeout=TIMEOUT)

    def told(task_id: str) -> dict[str, Any]:
        notes = project.notes.read("late", "span")
        return {each["name"]: each for each in notes if each["id"] == task_id}

    wait_until(lambda: "jobtastic.started" in told(first.id))
    shared = wait_until(lambda: told(second.id).get("jobtastic.reused"))
    own = span.get_span_context()
    assert shared["links"] == [f"{own.trace_id:032x}-{own.span_id:016x}"]


def test_a_call_without_a_span_and_what_is_no_context(
    project: Project, unique: str, caplog: pytest.LogCaptureFixture, tracer: trace.Tracer
) -> None:
    work = project.task("work")
    with caplog.at_level(logging.ERROR), project.gate(unique) as gate:
        work.delay(unique, gate=gate)
        with tracer.start_as_current_span("joins") as span:
            assert work.delay(unique).decision == "joined"
    assert list(span.links) == []  # type: ignore[attr-defined]
    assert caplog.text == ""
    for foreign in ("", "x", "0" * 32 + "-" + "0" * 16 + "-00", "1" * 32 + "-2-01", "Ä" * 53):
        assert otel.context_of(foreign) is None
