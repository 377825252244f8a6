"""The recipes of docs/client.md for Bootstrap and Tailwind, on what those make of them.

brands/bootstrap.css is cut from Bootstrap's own file; brands/tailwind.css is made by
``npx @tailwindcss/cli`` of ``@import "tailwindcss" source(none);`` and the recipe.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page

from tests.browser.stub import progress, task
from tests.browser.test_looks import CLIENT, PICTURES, ROOT, digest_of, faults, looked_at

__all__ = ("looked_at",)

BRANDS = Path(__file__).parent / "brands"

#: What the page itself says of its ground; Tailwind does by classes.
GROUNDS = {
    "bootstrap": "",
    "tailwind": """
      body { background: white; color: black }
      @media (prefers-color-scheme: dark) {
        body { background: oklch(21% 0.034 264.665); color: white }
      }""",
}

#: Which colours of the brand stand for what, in light and in dark.
COLOURS = {
    "bootstrap": {
        "progress": ("var(--bs-link-color)",) * 2,
        "success": ("var(--bs-success-text-emphasis)",) * 2,
        "failure": ("var(--bs-danger-text-emphasis)",) * 2,
        "track": ("var(--bs-secondary-bg)",) * 2,
        "muted": ("var(--bs-secondary-color)",) * 2,
    },
    "tailwind": {
        "progress": ("var(--color-indigo-600)", "var(--color-indigo-400)"),
        "success": ("var(--color-green-700)", "var(--color-green-400)"),
        "failure": ("var(--color-red-700)", "var(--color-red-400)"),
        "track": ("var(--color-gray-200)", "var(--color-gray-700)"),
        "muted": ("color-mix(in srgb, currentColor 78%, transparent)",) * 2,
    },
}

LAYOUT = """
  body { margin: 0 }
  main { display: grid; gap: 1.5rem; padding: 1rem }
  h1 { position: absolute; opacity: 0 }"""

TOLD = {
    "progress": [progress(42.6, 127, message="Sheet 3 of 7")],
    "success": [task("SUCCESS", [1])],
    "failure": [progress(64), task("FAILURE", "division by zero")],
    "pending": [task("PENDING")],
}

SHOW = """(told) => {
  for (const [id, steps] of Object.entries(told)) {
    for (const step of steps) document.getElementById(id).show(step);
  }
}"""

#: The colours that are painted, as red, green, blue and alpha, and those that were expected.
LOOK = """(colours) => {
  const canvas = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
  const painted = (colour) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const style = (id, part) =>
    getComputedStyle(document.getElementById(id).shadowRoot.querySelector(`[part=${part}]`));
  const wanted = (colour) => {
    const inside = document.body.appendChild(document.createElement('i'));
    inside.style.color = colour;
    const found = getComputedStyle(inside).color;
    inside.remove();
    return painted(found);
  };
  const found = {};
  for (const [name, colour] of Object.entries(colours)) {
    const shown = name === 'track' ? style('progress', 'track').backgroundColor
      : name === 'muted' ? style('progress', 'text').color
      : style(name, 'fill').backgroundColor;
    found[name] = [painted(shown), wanted(colour)];
  }
  return { found, radius: style('progress', 'track').borderRadius,
    height: style('progress', 'track').height };
}"""


def recipe(brand: str) -> str:
    text = (ROOT / "docs" / "client.md").read_text("utf-8")
    found = re.search(rf"With {brand.title()} .*?```css\n(.*?)```", text, re.S)
    assert found, brand
    return found[1]


def sheet(brand: str) -> str:
    made = (BRANDS / f"{brand}.css").read_text("utf-8")
    return made + ("" if brand == "tailwind" else recipe(brand))  # there it is in what was made


def head(brand: str) -> str:
    # A page that says nothing of colour schemes itself.
    return (
        f"<style>:root {{ color-scheme: normal }} {sheet(brand)} {GROUNDS[brand]} {LAYOUT}</style>"
    )


def bars() -> str:
    return "".join(
        f'<jobtastic-progress id="{name}" label="Report"></jobtastic-progress>' for name in TOLD
    )


def digest() -> str:
    return digest_of(CLIENT.read_text("utf-8"), *(head(brand) for brand in COLOURS), bars())


def contrast(one: list[int], other: list[int]) -> float:
    def light(colour: list[int]) -> float:
        parts = [value / 255 for value in colour[:3]]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2] + 0.05

    dark, bright = sorted((light(one), light(other)))
    return bright / dark


def test_what_tailwind_made_is_made_of_the_recipe() -> None:
    def squeezed(css: str) -> str:
        return "".join(css.split())

    made = recipe("tailwind").replace("@variant dark", "@media (prefers-color-scheme: dark)")
    assert squeezed(made) in squeezed(sheet("tailwind"))


@pytest.mark.parametrize("brand", COLOURS)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_bar_has_the_colours_of_the_brand(
    looked_at: Callable[..., Page],
    vendored: Callable[[str, str], str],
    brand: str,
    scheme: Any,
) -> None:
    page = looked_at(bars(), head=head(brand))
    page.emulate_media(color_scheme=scheme)
    page.evaluate("scheme => document.documentElement.dataset.bsTheme = scheme", scheme)
    page.wait_for_function("() => !!customElements.get('jobtastic-progress')")
    page.evaluate(SHOW, TOLD)
    number = ("light", "dark").index(scheme)
    seen = page.evaluate(LOOK, {name: each[number] for name, each in COLOURS[brand].items()})
    found = {name: shown for name, (shown, _) in seen["found"].items()}
    assert found == {name: wanted for name, (_, wanted) in seen["found"].items()}
    for name in ("progress", "success", "failure"):
        assert contrast(found[name], found["track"]) >= 3, name
    if brand == "bootstrap":
        assert (seen["radius"], seen["height"]) == ("6px", "16px")
    page.evaluate(vendored("axe-playwright-python", "axe_playwright_python/axe.min.js"))
    judged = page.evaluate("() => axe.run({runOnly: ['color-contrast']})")
    assert faults(judged) == []
    assert judged["passes"]
    if os.environ.get("JOBTASTIC_PICTURES"):
        page.set_viewport_size({"width": 420, "height": 100})
        page.screenshot(
            path=PICTURES / f"{brand}-{scheme}.png", full_page=True, animations="disabled"
        )
        (PICTURES / "brands-made-of").write_text(digest() + "\n")


def test_the_pictures_in_the_docs_are_of_these_recipes() -> None:
    assert (PICTURES / "brands-made-of").read_text().strip() == digest(), (
        "make them anew: JOBTASTIC_PICTURES=1 make test PYTEST_ARGS=tests/browser/test_brands.py"
    )
