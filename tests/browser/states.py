"""Every state that the element shows, as what it is told one after the other."""

from __future__ import annotations

import json
from typing import Any

from tests.browser.stub import progress, task

HALF = {"progress_percent": 42.6, "time_remaining": 127, "elapsed": 94, "begun": 1_700_000_000}

#: What the element is told: a task to show, or that it hears nothing more.
STATES: dict[str, list[Any]] = {
    "pending": [task("PENDING")],
    "queued": [task("PENDING", queue={"ahead": 4})],
    "begun": [progress(0)],
    "begun, known": [progress(0, 120, time_remaining_low=110, time_remaining_high=131)],
    "started": [task("STARTED")],
    "progress": [progress(42.6, 127)],
    "counted": [task("PROGRESS", {**HALF, "completed": 1278, "total": 3000})],
    "message": [task("PROGRESS", {**HALF, "message": "Sheet 3 of 7: customers of the north"})],
    "range": [progress(30, 200, time_remaining_low=120, time_remaining_high=300)],
    "vague": [progress(5, 570, time_remaining_low=120, time_remaining_high=2900)],
    "moments": [progress(96, 4)],
    "finishing": [progress(100, 0)],
    "estimated": [progress(12, 200, estimated=True)],
    "retry": [progress(64), task("RETRY", "no", attempt=1)],
    "retry, known": [progress(64), task("RETRY", "no", attempt=2, retry_in=29.6)],
    "second attempt": [task("PROGRESS", {**HALF, "attempt": 2})],
    "unconfirmed": [progress(42.6, 127), "doubt"],
    "no connection": [progress(42.6, 127), "fail"],
    "refused": [progress(42.6, 127), "refuse"],
    "success": [task("SUCCESS", [1])],
    "took": [task("PROGRESS", HALF), task("SUCCESS", [1], ended=1_700_000_154)],
    "failure": [progress(64), task("FAILURE", "division by zero: row 17 has no denominator")],
    "private": [progress(64), task("FAILURE", "", private=True) | {"id": "0f2f1a3e-7f9d"}],
    "lost": [progress(64), task("FAILURE", "worker lost", lost=True, heard=1_700_000_000)],
    "revoked": [progress(64), task("REVOKED")],
}

TELL = """(told) => {
  for (const [id, steps] of Object.entries(told)) {
    const bar = document.getElementById(id).querySelector('jobtastic-progress');
    for (const step of steps) {
      if (step === 'doubt') bar.doubt();
      else if (step === 'fail' || step === 'refuse') bar.fail({ final: step === 'refuse' });
      else bar.show(step);
    }
  }
}"""

STYLE = """<style>
  main { display: grid; gap: 1rem 2rem; }
  main { grid-template-columns: repeat(auto-fill, minmax(15rem, 1fr)) }
  h1 { position: absolute; opacity: 0 }
  h2 { margin: 0 0 .35rem; font-size: .7rem; font-weight: 400; opacity: .85 }
</style>"""


def body() -> str:
    """One element for each state, every second one with a label, one with a button beside it."""
    sections = []
    for number, state in enumerate(STATES):
        label = 'label="Quarterly report"' if number % 2 else ""
        beside = '<button slot="beside">Cancel</button>' if state == "counted" else ""
        sections.append(
            f'<section id="{state}"><h2>{state}</h2>'
            f"<jobtastic-progress {label}>{beside}</jobtastic-progress></section>"
        )
    return "".join(sections)


def content() -> str:
    """What decides how they look, beside the client."""
    return json.dumps([STATES, STYLE, body()])
