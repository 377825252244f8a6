"""Accessible in every state and theme; pictures of all of them, of which some stand in the docs.

$JOBTASTIC_SCREENSHOTS names a folder for pictures in every mode, to be looked at; with
JOBTASTIC_PICTURES=1 those of docs/pictures are made anew.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page

from tests.browser.states import STATES, STYLE, TELL, body, content
from tests.browser.stub import STATIC, Stub, progress, task

#: Of axe's rules, all that WCAG 2.2 AA asks for, and what axe itself holds to be good.
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]

ROOT = Path(__file__).resolve().parents[2]
PICTURES = ROOT / "docs" / "pictures"
CLIENT = STATIC / "jobtastic_ext" / "jobtastic.js"


@pytest.fixture
def looked_at(browser: Browser, stub: Stub) -> Any:
    """Open `body` in an ordinary light page, with motion stilled, and note what goes wrong."""
    context = browser.new_context(
        viewport={"width": 900, "height": 400}, color_scheme="light", reduced_motion="reduce"
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


THEMES = {
    "light": "",
    "dark": "",
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
    # A brand's colours and shapes, as docs/client.md has them.
    "brand": """
      :root { color-scheme: light }
      body { background: #fffaf5; color: #2b1a3d; font-family: serif }
      jobtastic-progress {
        --jobtastic-accent: rebeccapurple; --jobtastic-height: .9rem; --jobtastic-radius: 0;
      }""",
}

#: How each mode is set up: media features, width, and a script.
MODES: dict[str, tuple[dict[str, str], int, str]] = {
    "light": ({"color_scheme": "light"}, 900, ""),
    "dark": ({"color_scheme": "dark"}, 900, ""),
    "320": ({"color_scheme": "light"}, 320, ""),
    "200 percent": ({}, 900, "document.documentElement.style.fontSize = '200%'"),
    "right to left": ({}, 900, "document.documentElement.dir = 'rtl'"),
    "forced colours": ({"forced_colors": "active"}, 900, ""),
    "motion": ({"reduced_motion": "no-preference"}, 900, ""),
}


def themed(page: Page, theme: str) -> None:
    page.emulate_media(color_scheme="dark" if theme in ("dark", "no scheme") else "light")
    page.evaluate("css => { document.getElementById('theme').textContent = css }", THEMES[theme])


def test_axe_finds_nothing_in_any_theme_and_pictures_are_made(
    looked_at: Callable[..., Page], vendored: Callable[[str, str], str]
) -> None:
    page = looked_at(body(), head=STYLE + '<style id="theme"></style>')
    page.wait_for_function("() => !!customElements.get('jobtastic-progress')")
    page.evaluate(TELL, STATES)
    page.evaluate(vendored("axe-playwright-python", "axe_playwright_python/axe.min.js"))
    for theme in THEMES:
        themed(page, theme)
        rules = RULES if theme in ("light", "dark") else ["color-contrast"]
        found = page.evaluate("rules => axe.run({runOnly: rules})", rules)
        assert faults(found) == [], theme
        passed = {each["id"] for each in found["passes"]}
        # That it looked into the shadow at all, and judged colours.
        assert "color-contrast" in passed
        assert theme != "light" or {"aria-progressbar-name", "aria-valid-attr-value"} <= passed
        if os.environ.get("JOBTASTIC_PICTURES") and theme in ("light", "dark", "brand"):
            PICTURES.mkdir(exist_ok=True)
            page.screenshot(path=PICTURES / f"{theme}.png", full_page=True, animations="disabled")
            (PICTURES / "made-of").write_text(digest() + "\n")
    themed(page, "light")
    if os.environ.get("JOBTASTIC_SCREENSHOTS"):
        take_pictures(page, Path(os.environ["JOBTASTIC_SCREENSHOTS"]))


def faults(found: dict[str, Any]) -> list[tuple[str, list[str]]]:
    """The rules that axe saw broken, and where."""
    return [(each["id"], [node["html"] for node in each["nodes"]]) for each in found["violations"]]


def take_pictures(page: Page, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for mode, (media, width, script) in MODES.items():
        calm = {"color_scheme": "light", "forced_colors": "none", "reduced_motion": "reduce"}
        page.emulate_media(**{**calm, **media})  # type: ignore[arg-type]
        page.set_viewport_size({"width": width, "height": 400})
        page.evaluate(f"() => {{ {script} }}")
        page.screenshot(path=folder / f"{mode}.png", full_page=True)
        page.evaluate(
            "() => { const root = document.documentElement; root.style.fontSize = root.dir = '' }"
        )


def digest() -> str:
    """Of what the pictures show: the client, and the states."""
    return digest_of(CLIENT.read_text("utf-8"), content())


def digest_of(*shown: str) -> str:
    return hashlib.blake2b("".join(shown).encode(), digest_size=16).hexdigest()


def test_the_pictures_in_the_docs_are_of_this_client() -> None:
    assert (PICTURES / "made-of").read_text().strip() == digest(), (
        "make them anew: JOBTASTIC_PICTURES=1 make test PYTEST_ARGS=tests/browser/test_looks.py"
    )
    sizes = [(PICTURES / f"{theme}.png").stat().st_size for theme in ("light", "dark", "brand")]
    assert sum(sizes) < 500_000


def test_nothing_jumps_when_a_message_comes_or_goes(looked_at: Callable[..., Page]) -> None:
    page = looked_at(
        "<jobtastic-progress></jobtastic-progress>"
        '<jobtastic-progress label="Report"></jobtastic-progress><p id="below">below</p>'
    )
    page.wait_for_function("() => !!customElements.get('jobtastic-progress')")
    places = page.evaluate(
        """tasks => tasks.map((task) => {
          for (const bar of document.querySelectorAll('jobtastic-progress')) bar.show(task);
          return document.getElementById('below').getBoundingClientRect().top;
        })""",
        [
            task("PENDING"),
            progress(0),
            progress(10, 60, message="A message that is so long that it fits into no line " * 5),
            progress(20, 60, completed=3, total=9, elapsed=4),
            progress(30, 200, time_remaining_low=120, time_remaining_high=300, message="Short"),
            task("RETRY"),
            task("SUCCESS"),
        ],
    )
    assert len(set(places)) == 1, places


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
    page.emulate_media(reduced_motion="no-preference")
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
