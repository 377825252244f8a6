"""The app of `tests.reports`, whose worker notes what the spans of its messages tell."""

from __future__ import annotations

from typing import Any

from celery.signals import task_postrun, task_prerun
from opentelemetry import context, trace
from opentelemetry.sdk.trace import TracerProvider

from jobtastic_ext.contrib import otel
from tests import reports

app = getattr(reports, "app", None)
tracer = TracerProvider().get_tracer("worker")
_open: dict[str, Any] = {}


def begin(task_id: str, **_: Any) -> None:
    """As opentelemetry-instrumentation-celery does."""
    span = tracer.start_span(f"run {task_id}")
    _open[task_id] = span, context.attach(trace.set_span_in_context(span))


def end(task_id: str, sender: Any, **_: Any) -> None:
    span, token = _open.pop(task_id)
    context.detach(token)
    span.end()
    links = [f"{each.context.trace_id:032x}-{each.context.span_id:016x}" for each in span.links]
    task = sender.name.rpartition(".")[2]
    for event in span.events:
        app.notes.add(event="span", task=task, id=task_id, name=event.name, links=links)


if app is not None:
    otel.install(app)
    task_prerun.connect(begin, weak=False)
    task_postrun.connect(end, weak=False)
