"""The overview in Chromium: looks in light and dark, on a small screen, and its form.

$JOBTASTIC_SCREENSHOTS names a folder for pictures; with JOBTASTIC_PICTURES=1 those of docs/pictures
are made anew.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import flask
import pytest
from celery import Celery
from playwright.sync_api import Browser, Page

from jobtastic_ext import JobtasticStep
from jobtastic_ext.runtime import close_runtime, runtime_of
from jobtastic_ext.web.flask import overview
from tests.browser.test_looks import PICTURES, ROOT, RULES, digest_of, faults
from tests.web.sites import wsgi

WEB = ROOT / "jobtastic_ext" / "web"

TASKS = ("reports.divide", "reports.yearly_statement_of_every_customer_and_all_of_their_orders")


def same(x: Any) -> Any:
    return x


@pytest.fixture
def app(tmp_path: Path) -> Iterator[Celery]:
    app = Celery("shop", set_as_current=False, broker="memory://", backend="cache+memory://")
    app.conf.update(
        jobtastic_policy={"tasks": {name: {"cache_duration": "1h"} for name in TASKS}},
        jobtastic_store=f"sqlite:///{tmp_path / 'claims.sqlite3'}",
    )
    app.steps["worker"].add(JobtasticStep)
    for name in TASKS:
        app.task(same, name=name, shared=False)
    app.finalize()
    for task in (app.tasks[name] for name in TASKS):
        for number in (1, 1, 1, 2):
            task.delay(number)
    yield app
    close_runtime(app)
    app.close()


@pytest.fixture
def seen(app: Celery, browser: Browser) -> Iterator[Page]:
    application = flask.Flask("site")
    routes = overview(app, authorize=lambda _: True, may_forget=lambda _: True)
    application.register_blueprint(routes, url_prefix="/jobtastic")
    troubles: list[str] = []
    with wsgi(application) as site:
        context = browser.new_context(viewport={"width": 1100, "height": 800})
        page = context.new_page()
        page.on("console", lambda message: troubles.append(message.text))
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.goto(f"http://127.0.0.1:{site.port}/jobtastic/")
        yield page
        context.close()
    # A rule of the page's own policy that it broke would be told there.
    assert [one for one in troubles if "favicon" not in one] == []


def test_axe_finds_nothing_in_light_and_dark_and_nothing_is_cut_off(
    seen: Page, vendored: Callable[[str, str], str]
) -> None:
    axe = vendored("axe-playwright-python", "axe_playwright_python/axe.min.js")
    seen.locator("summary").first.click()
    for scheme, width in (("light", 1100), ("dark", 1100), ("light", 320), ("dark", 320)):
        seen.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        seen.set_viewport_size({"width": width, "height": 800})
        fits = "document.documentElement.scrollWidth <= document.documentElement.clientWidth"
        assert seen.evaluate(fits), (scheme, width)
        seen.evaluate(axe)
        found = seen.evaluate("rules => axe.run({runOnly: rules})", RULES)
        assert faults(found) == [], (scheme, width)
        assert "color-contrast" in {each["id"] for each in found["passes"]}
        if os.environ.get("JOBTASTIC_SCREENSHOTS"):
            folder = Path(os.environ["JOBTASTIC_SCREENSHOTS"])
            folder.mkdir(parents=True, exist_ok=True)
            seen.screenshot(path=folder / f"overview {scheme} {width}.png", full_page=True)
        if os.environ.get("JOBTASTIC_PICTURES") and width > 1000:
            seen.screenshot(path=PICTURES / f"overview-{scheme}.png", full_page=True)
            (PICTURES / "overview-made-of").write_text(digest() + "\n")
    background = "getComputedStyle(document.body).backgroundColor"
    dark = seen.evaluate(background)
    seen.emulate_media(color_scheme="light")
    assert seen.evaluate(background) != dark


def digest() -> str:
    """Of what the pictures show."""
    return digest_of(*((WEB / name).read_text("utf-8") for name in ("document.py", "page.css")))


def test_the_pictures_in_the_docs_are_of_this_page() -> None:
    assert (PICTURES / "overview-made-of").read_text().strip() == digest(), (
        "make them anew: JOBTASTIC_PICTURES=1 make test PYTEST_ARGS=tests/browser/test_overview.py"
    )


def test_a_call_is_let_go_of_in_two_clicks_without_a_script(seen: Page, app: Any) -> None:
    runtime = runtime_of(app)
    assert runtime is not None
    rows = seen.locator("h2#claims + table tbody tr")
    assert rows.count() == 4
    row = rows.first
    gone = row.locator("code").inner_text()
    button = row.get_by_role("button", name="Forget it")
    assert not button.is_visible()
    row.locator("summary").click()
    button.click()
    seen.get_by_text("Forgotten. The next identical call runs.").wait_for()
    assert rows.count() == 3
    assert gone not in [one.id for one in runtime.desk.claims()]
    assert "since=7d" in seen.url


def test_the_time_is_chosen_and_the_bar_is_as_long_as_the_share(seen: Page) -> None:
    seen.get_by_role("link", name="a day").click()
    seen.wait_for_url("**/?since=1d")
    assert seen.locator("nav [aria-current]").inner_text() == "a day"
    widths = seen.evaluate(
        """() => [...document.querySelectorAll('td .bar')].map((bar) =>
          bar.querySelector('rect').getBoundingClientRect().width
            / bar.getBoundingClientRect().width)"""
    )
    assert widths == pytest.approx([0.5, 0.5], abs=0.02)
