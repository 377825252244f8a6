"""The overview as HTML: rendered here, escaped, with no script, and a policy that lets none run."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from importlib.resources import files
from urllib.parse import urlencode

from msgspec import Struct

from ..operations.held import Held
from ..operations.savings import Saving

STYLE = files(__package__).joinpath("page.css").read_text("utf-8")

_digest = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()

HEADERS = {
    "Content-Type": "text/html; charset=utf-8",
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    # A form has to say where it comes from.
    "Referrer-Policy": "same-origin",
    "Content-Security-Policy": (
        f"default-src 'none'; style-src 'sha256-{_digest}'; form-action 'self'; "
        "base-uri 'none'; frame-ancestors 'none'"
    ),
}

#: Of what time the savings may be, by the word in the address.
SPANS = {"1d": ("a day", 86_400.0), "7d": ("7 days", 604_800.0), "35d": ("35 days", 3_024_000.0)}

#: Units of time, the largest first.
UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))


class Shown(Struct, kw_only=True):
    """What the overview shows."""

    since: str
    savings: Sequence[Saving] = ()
    claims: Sequence[Held] = ()
    #: There are more of them, or may be.
    more: bool = False
    #: Said above all else: what, and whether it is good.
    said: tuple[tuple[str, str], ...] = ()
    #: Fields that a form has to bring; None if whoever asks may not let go of anything.
    form: Mapping[str, str] | None = None
    #: Where the page hangs: a title and its address.
    home: tuple[str, str] | None = None


def document(shown: Shown) -> bytes:
    """Return the whole page."""
    parts = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>Savings and claims</title><style>{STYLE}</style></head><body>",
        *header(shown),
        "<main>",
        *(f'<p class="note {kind}" role="status">{escape(text)}</p>' for kind, text in shown.said),
        *figures(shown.savings),
        *savings(shown.savings),
        *claims(shown),
        "</main></body></html>",
    ]
    return "".join(parts).encode("utf-8", "replace")


def header(shown: Shown) -> Iterable[str]:
    yield "<header><h1>Savings and claims</h1>"
    if shown.home is not None:
        title, address = shown.home
        yield f'<a href="{escape(address)}">{escape(title)}</a>'
    yield '<nav aria-label="Time">'
    for word, (title, _) in SPANS.items():
        current = ' aria-current="page"' if word == shown.since else ""
        yield f'<a href="?{urlencode({"since": word})}"{current}>{title}</a>'
    yield "</nav></header>"


def figures(found: Sequence[Saving]) -> Iterable[str]:
    calls = sum(one.calls for one in found)
    avoided = sum(one.avoided for one in found)
    share = avoided / max(calls, avoided) if avoided else 0.0
    yield '<dl class="figures">'
    yield f"<div><dt>Time saved</dt><dd>{span(sum(one.seconds_saved for one in found))}</dd></div>"
    yield f"<div><dt>Calls</dt><dd>{calls:,}</dd></div>"
    yield f"<div><dt>Runs</dt><dd>{sum(one.runs for one in found):,}</dd></div>"
    yield f"<div><dt>Without a run</dt><dd>{share:.0%}</dd>{bar(share)}</div></dl>"


def savings(found: Sequence[Saving]) -> Iterable[str]:
    yield '<h2 id="savings">Savings</h2>'
    if not found:
        yield '<p class="quiet">No task has a policy.</p>'
        return
    yield from head(
        "savings",
        ("Task", "Calls", "Runs", "Joined", "Cached", "Without a run", "A run takes", "Saved"),
    )
    for one in sorted(found, key=lambda one: (-one.seconds_saved, -one.calls, one.task)):
        yield '<tr role="row">'
        yield cell("Task", escape(one.task), "name")
        yield cell("Calls", f"{one.calls:,}", "number")
        yield cell("Runs", f"{one.runs:,}", "number")
        yield cell("Joined", f"{one.joined:,}", "number")
        yield cell("Cached", f"{one.cached + one.stale:,}", "number")
        yield cell("Without a run", f"<span>{one.hit_rate:.0%}</span>{bar(one.hit_rate)}")
        takes = "" if one.seconds_per_run is None else span(one.seconds_per_run)
        yield cell("A run takes", takes, "number")
        yield cell("Saved", span(one.seconds_saved), "number") + "</tr>"
    yield "</tbody></table>"
    for one in found:
        for warning in one.warnings:
            yield f'<p class="note bad">{escape(warning)}</p>'
        if one.shadow_seconds:
            would = f"{one.task}: without shadow, {span(one.shadow_seconds)} would be saved"
            yield f'<p class="note">{escape(would)}</p>'


def claims(shown: Shown) -> Iterable[str]:
    yield '<h2 id="claims">Under way</h2>'
    if shown.claims:
        yield from table_of(shown)
    if shown.more:
        yield (
            f'<p class="quiet">{"There are more" if shown.claims else "None was found in time"}; '
            "<code>celery -A … jobtastic claims</code> lists all of them.</p>"
        )
    elif not shown.claims:
        yield '<p class="quiet">No call is queued or running.</p>'


def table_of(shown: Shown) -> Iterable[str]:
    titles = ("Task", "State", "Id", "For", "Worker", "Waiting", "Deadline")
    yield from head("claims", titles if shown.form is None else (*titles, "Let go"))
    for one in shown.claims:
        yield '<tr role="row">'
        yield cell("Task", escape(one.task), "name")
        yield cell("State", one.state)
        yield cell("Id", f"<code>{escape(one.id)}</code>")
        yield cell("For", span(one.age), "number")
        yield cell("Worker", escape(one.worker))
        yield cell("Waiting", f"{one.waiting:,}" if one.waiting else "", "number")
        yield cell("Deadline", deadline(one))
        if shown.form is not None:
            yield cell("Let go", forget(one, shown.form, shown.since))
        yield "</tr>"
    yield "</tbody></table>"


def forget(one: Held, fields: Mapping[str, str], since: str) -> str:
    """Return what asks once more, and then lets go."""
    hidden = "".join(
        f'<input type="hidden" name="{escape(name)}" value="{escape(value)}">'
        for name, value in {**fields, "key": one.key, "since": since}.items()
    )
    consequence = "The next identical call is sent."
    if one.state == "running":
        consequence = "It goes on, and the next identical call runs beside it."
    label = f"Forget {escape(one.task)}, {escape(one.id)}"
    return (
        f'<details><summary aria-label="{label}">Forget</summary>'
        f'<form method="post">{hidden}<p class="quiet">{consequence}</p>'
        "<button>Forget it</button></form></details>"
    )


def deadline(one: Held) -> str:
    if one.overdue:
        return '<span class="late">overdue</span>'
    return "" if one.deadline is None else f"in {span(one.deadline)}"


def head(name: str, titles: Sequence[str]) -> Iterable[str]:
    # What is laid out as cards on a narrow screen stays a table to those who hear it.
    numbers = ("Calls", "Runs", "Joined", "Cached", "A run takes", "Saved", "For", "Waiting")
    yield f'<table role="table" aria-labelledby="{name}"><thead role="rowgroup"><tr role="row">'
    for title in titles:
        kind = ' class="number"' if title in numbers else ""
        yield f'<th role="columnheader" scope="col"{kind}>{title}</th>'
    yield '</tr></thead><tbody role="rowgroup">'


def cell(label: str, html: str, kind: str = "") -> str:
    named = f' class="{kind}"' if kind else ""
    return f'<td role="cell" data-label="{label}"{named}>{html}</td>'


def bar(share: float) -> str:
    # Attributes of SVG: a `style` would need a looser policy.
    width = f"{100 * min(max(share, 0.0), 1.0):.1f}%"
    return f'<svg class="bar" aria-hidden="true"><rect width="{width}" height="100%"/></svg>'


def span(seconds: float) -> str:
    """Return a time in its two largest units."""
    if seconds < 60:
        return f"{seconds:.2g} s" if seconds else "0 s"
    left, found = round(seconds), list[str]()
    for size, unit in UNITS:
        count, left = divmod(left, size)
        if count or found:
            found.append(f"{count:,} {unit}")
    return " ".join(found[:2])
