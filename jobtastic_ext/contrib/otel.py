"""Traces for OpenTelemetry: ``jobtastic_ext.contrib.otel.install(app)``.

The span that is current at a call gets an event for what was decided, and so does the span of a
run in a worker, if there is one (``opentelemetry-instrumentation-celery`` makes it).  Who shares a
run is linked to the span that called it, in whose trace that run is.  Needs
``pip install 'jobtastic_ext[otel]'``.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import Any

from celery import Celery
from opentelemetry.trace import (
    SpanContext,
    TraceFlags,
    get_current_span,
)

from .. import signals
from ..decisions import CALLS, MESSAGES
from ..telling import TRACE

__all__ = ("install", "uninstall")

#: The attribute of an app that holds the handlers that it has connected.
ATTRIBUTE = "_jobtastic_otel"

#: ``trace id-span id-flags``, as in the header ``traceparent``.
CONTEXT = re.compile(r"([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")

#: What OpenTelemetry calls these operations on messages.
SEND, PROCESS = "send", "process"


def install(app: Celery) -> None:
    """Tell the current span what is decided for the tasks of `app`; twice is harmless.

    With the claim of a call that is traced its trace and span id are kept, 54 characters, so that
    who joins it can be linked to it.
    """
    if ATTRIBUTE in app.__dict__:
        return
    connected: list[tuple[Any, Callable[..., None]]] = []
    for operation, words in ((SEND, CALLS), (PROCESS, MESSAGES)):
        for each in words:
            signal = getattr(signals, each.signal)
            heard = partial(add_event, app, operation, each.word)
            signal.connect(heard, weak=False)
            connected.append((signal, heard))
    app.__dict__[ATTRIBUTE] = connected
    app.__dict__[TRACE] = here


def uninstall(app: Celery) -> None:
    """Undo `install`."""
    for signal, heard in app.__dict__.pop(ATTRIBUTE, ()):
        signal.disconnect(heard)
    app.__dict__.pop(TRACE, None)


def here() -> str:
    """Return the context of the current span; nothing if it is not recorded."""
    span = get_current_span()
    if not span.is_recording():
        return ""
    context = span.get_span_context()
    return f"{context.trace_id:032x}-{context.span_id:016x}-{int(context.trace_flags):02x}"


def add_event(
    app: Celery,
    operation: str,
    word: str,
    sender: Any,
    task_id: str,
    trace: str,
    decision: str = "",
    **_: Any,
) -> None:
    """Tell the current span; its names are those of the conventions for messaging."""
    if sender.app is not app or (decision and decision != word):
        return  # another app's, or a signal of old beside that of the word
    span = get_current_span()
    if not span.is_recording():
        return
    attributes = {
        "messaging.system": "celery",
        "messaging.operation.type": operation,
        "messaging.message.id": task_id,
        "celery.task_name": sender.name,
        "jobtastic.decision": word,
    }
    span.add_event(f"jobtastic.{word}", attributes)
    context = context_of(trace)
    if context is not None and context != span.get_span_context():
        span.add_link(context, {"jobtastic.decision": word})


def context_of(trace: str) -> SpanContext | None:
    """Return the context that `here` has left with a run, if it is one: it may be foreign."""
    found = CONTEXT.fullmatch(trace)
    if found is None:
        return None
    ids, flags = (int(found[1], 16), int(found[2], 16)), TraceFlags(int(found[3], 16))
    context = SpanContext(*ids, is_remote=True, trace_flags=flags)
    return context if context.is_valid else None
