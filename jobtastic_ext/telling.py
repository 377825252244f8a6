"""Tells who listens of what was decided; while nobody does, nothing is made."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from celery.exceptions import Ignore, Reject, Retry

from . import signals
from .decisions import CALLS, MESSAGES
from .hooks import Entered

#: By the word of `decisions`.
OF_CALLS = {each.word: getattr(signals, each.signal) for each in CALLS}
OF_MESSAGES = {each.word: getattr(signals, each.signal) for each in MESSAGES}

#: The attribute of an app that holds what tells where a call comes from: see `trace_here`.
TRACE = "_jobtastic_trace"

#: Characters of a trace that are kept with a claim.
LONGEST = 64


def tell(signal: Any, sender: Any, **what: Any) -> None:
    """Send a signal, if somebody listens."""
    if signal.receivers:
        signal.send(sender=sender, **what)


def trace_here(app: Any) -> str:
    """Return what `contrib.otel` wants to find again in the claim of a call; mostly nothing."""
    here: Callable[[], str] | None = app.__dict__.get(TRACE)
    found = here() if here is not None else ""
    return found if len(found) <= LONGEST else ""


def told(entered: Entered, waited: float | None) -> AbstractContextManager[None]:
    """Return what tells of the begin and the end of a body."""
    if not (signals.run_started.receivers or signals.run_ended.receivers):
        return nullcontext()
    return _told(entered, waited)


@contextmanager
def _told(entered: Entered, waited: float | None) -> Iterator[None]:
    what = {
        "task_id": entered.request.id,
        "key": entered.key,
        "args": entered.args,
        "kwargs": entered.kwargs,
        "other": "",
        "trace": "",
    }
    tell(signals.run_started, entered.task, waited=waited, **what)
    begun, outcome = time.perf_counter(), "succeeded"
    try:
        yield
    except BaseException as error:
        outcome = outcome_of(error)
        raise
    finally:
        seconds = time.perf_counter() - begun
        tell(signals.run_ended, entered.task, outcome=outcome, seconds=seconds, **what)


def outcome_of(error: BaseException) -> str:
    """Return the word of `decisions.OUTCOMES` for a body that raised."""
    if isinstance(error, Retry):
        return "retried"
    if isinstance(error, Ignore | Reject):
        return "rejected"
    return "failed" if isinstance(error, Exception) else "killed"
