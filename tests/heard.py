"""The app of `tests.reports`, whose worker notes every signal that it hears."""

from __future__ import annotations

from typing import Any

from jobtastic_ext import signals
from jobtastic_ext.decisions import CALLS, EVENTS, MESSAGES, OUTCOMES
from tests import reports

#: Names of all signals.
NAMES = sorted({each.signal for each in (*CALLS, *MESSAGES, *OUTCOMES, *EVENTS)})


def note(signal: Any, sender: Any, **what: Any) -> None:
    kept = {name: value for name, value in what.items() if isinstance(value, str | float)}
    task = sender.name.rpartition(".")[2]
    app.notes.add(event="signal", task=task, name=signal.name, **kept)
    raise RuntimeError("a handler that raises changes nothing")


#: In a worker process only.
app = getattr(reports, "app", None)
if app is not None:
    for name in NAMES:
        getattr(signals, name).connect(note, weak=False)
