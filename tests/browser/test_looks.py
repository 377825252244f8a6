"""Accessible in every state, light and dark; $JOBTASTIC_SCREENSHOTS names a folder for pictures."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page

from tests.browser.stub import Step, Stub, progress, task

STATES: dict[str, list[Step]] = {
    "pending": [task("PENDING")],
    "queued": [task("PENDING", queue={"ahead": 4})],
    "begun": [progress(0)],
    "progress": [progress(42.6, 127, message="Sheet 3 of 7")],
    "estimated": [
        progress(12, 200, time_remaining_low=120, time_remaining_high=300, estimated=True)
    ],
    "started": [task("STARTED")],
    "retry": [task("RETRY")],
    "success": [task("SUCCESS", [1])],
    "failure": [progress(64), task("FAILURE", "division by zero: row 17 has no denominator")],
    "lost": [task("FAILURE", "worker lost", lost=True)],
    "revoked": [task("REVOKED")],
    "error": [progress(42.6, 127), 503],
}

#: Of axe's rules, all that WCAG 2.2 AA asks for, and what axe itself holds to be good.
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


@pytest.fixture(params=["light", "dark"])
def scheme(request: pytest.FixtureRequest) -> str:
    value: str = request.param
    return value


@pytest.fixture
def looked_at(browser: Browser, stub: Stub, scheme: str) -> Any:
    """Open `body` in that colour scheme, with motion stilled, and noting what goes wrong."""
    context = browser.new_context(
        viewport={"width": 760, "height": 400}, color_scheme=scheme, reduced_motion="reduce"
    )
    page = context.new_page()
    troubles: list[str] = []

    def note(message: ConsoleMessage) -> None:
        if message.type == "error" and not message.text.startswith("Failed to load resource"):
            troubles.append(message.text)

    page.on("console", note)
    page.on("pageerror", lambda error: troubles.append(str(error)))

    def open_page(body: str, head: str = "") -> Page:
        page.goto(stub.page(body, head=head))
        return page

    yield open_page
    context.close()
    assert troubles == []


def bars(stub: Stub, *without: str) -> str:
    """One bar for each state, every second one with a label."""
    sections = []
    shown = {state: steps for state, steps in STATES.items() if state not in without}
    for number, (state, steps) in enumerate(shown.items()):
        label = 'label="Quarterly report"' if number % 2 else ""
        bar = f'<jobtastic-progress src="{stub.status(state, steps)}" {label}></jobtastic-progress>'
        sections.append(f'<section id="{state}" style="padding: .8rem 0">{bar}</section>')
    return "".join(sections)


def settled(page: Page) -> None:
    """Wait until each bar has come to the state for which it stands."""
    page.wait_for_function(
        """() => [...document.querySelectorAll('section')].every(({id, firstChild: bar}) =>
          bar.task && (bar.state === id
            || !['success', 'failure', 'revoked', 'retry', 'progress', 'error'].includes(id)))""",
        timeout=60_000,
    )


def faults(found: dict[str, Any]) -> list[tuple[str, list[str]]]:
    """The rules that axe saw broken, and where."""
    return [(each["id"], [node["html"] for node in each["nodes"]]) for each in found["violations"]]


def test_axe_finds_nothing(
    looked_at: Callable[..., Page],
    stub: Stub,
    scheme: str,
    vendored: Callable[[str, str], str],
) -> None:
    page = looked_at(bars(stub))
    settled(page)
    page.evaluate(vendored("axe-playwright-python", "axe_playwright_python/axe.min.js"))
    found = page.evaluate("tags => axe.run({runOnly: tags})", RULES)
    assert [
        (each["id"], [node["html"] for node in each["nodes"]]) for each in found["violations"]
    ] == []
    passed = {each["id"] for each in found["passes"]}
    # That it looked into the shadow at all, and judged colours.
    assert {"aria-progressbar-name", "color-contrast", "aria-valid-attr-value"} <= passed
    folder = os.environ.get("JOBTASTIC_SCREENSHOTS")
    if folder:
        Path(folder).mkdir(parents=True, exist_ok=True)
        for state in STATES:
            path = Path(folder) / f"{state}-{scheme}.png"
            page.locator(f"#{state}").screenshot(path=path, animations="disabled")
        page.screenshot(path=Path(folder) / f"all-{scheme}.png", full_page=True)


THEMES = {
    # A page that knows no dark scheme stays light, whatever the reader prefers.
    "no scheme": ":root { color-scheme: normal }",
    # A page that is dark by its own colours alone names the three that carry a meaning.
    "dark by hand": """
      :root { color-scheme: normal }
      body {
        background: #111; color: #eee; --jobtastic-accent: #6ea8ff;
        --jobtastic-success: #4ade80; --jobtastic-failure: #ff8a80;
      }""",
    "sepia": ":root { color-scheme: light } body { background: #f4ecd8; color: #433422 }",
}


@pytest.mark.parametrize("theme", THEMES)
def test_it_fits_other_themes(
    looked_at: Callable[..., Page],
    stub: Stub,
    theme: str,
    vendored: Callable[[str, str], str],
) -> None:
    # The error looks as a cancelled task does, and takes its time to come.
    page = looked_at(bars(stub, "error"), head=f"<style>{THEMES[theme]}</style>")
    settled(page)
    page.evaluate(vendored("axe-playwright-python", "axe_playwright_python/axe.min.js"))
    found = page.evaluate("() => axe.run({runOnly: ['color-contrast']})")
    assert faults(found) == []
    assert found["passes"]


def test_a_narrow_place_and_the_other_direction(looked_at: Callable[..., Page], stub: Stub) -> None:
    path = stub.status("a", [progress(25, 127)])
    page = looked_at(
        f'<div dir="rtl" style="width: 9rem"><jobtastic-progress src="{path}" '
        'label="A very long label for so small a place"></jobtastic-progress></div>'
    )
    page.wait_for_function("document.querySelector('jobtastic-progress').percent === 25")
    page.wait_for_timeout(100)
    fits, right = page.evaluate(
        """() => {
          const box = document.querySelector('[dir]').getBoundingClientRect();
          const {shadowRoot} = document.querySelector('jobtastic-progress');
          const part = (name) =>
            shadowRoot.querySelector(`[part=${name}]`).getBoundingClientRect();
          return [
            ['label', 'figure', 'track', 'text'].every((name) =>
              part(name).left >= box.left - 1 && part(name).right <= box.right + 1),
            Math.abs(part('fill').right - part('track').right) < 1];
        }"""
    )
    assert fits
    assert right


def test_from_right_to_left_a_figure_reads_right_and_the_shimmer_runs_along(
    page: Page, stub: Stub
) -> None:
    """`~37%` has no letter that tells its direction: it became `37%~`."""
    guessed = stub.status("a", [progress(37, estimated=True)])
    waits = stub.status("b", [task("PENDING")])
    page.goto(
        stub.page(
            f'<div dir="rtl"><jobtastic-progress id="a" src="{guessed}"></jobtastic-progress>'
            f'<jobtastic-progress id="b" src="{waits}"></jobtastic-progress></div>'
        )
    )
    page.wait_for_function("document.querySelector('#a').percent === 37")
    page.wait_for_function("document.querySelector('#b').hasAttribute('unknown')")
    tilde, percent, direction = page.evaluate(
        """() => {
          const figure = document.querySelector('#a').shadowRoot.querySelector('[part=figure]');
          const left = (index) => {
            const range = document.createRange();
            range.setStart(figure.firstChild, index);
            range.setEnd(figure.firstChild, index + 1);
            return range.getBoundingClientRect().left;
          };
          const fill = document.querySelector('#b').shadowRoot.querySelector('[part=fill]');
          return [left(0), left(3), getComputedStyle(fill).animationDirection];
        }"""
    )
    assert tilde < percent
    assert direction == "reverse"
