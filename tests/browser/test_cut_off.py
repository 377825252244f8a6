"""What people see of a run whose worker does not reach its servers, and runs on."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.browser.conftest import STILL
from tests.browser.stub import STATIC
from tests.integration.conftest import Project, start_project, unique, wait_until
from tests.web.sites import Site, site
from tests.web.test_cut_off import IN_TIME, CutOff

BOUNDED = True

__all__ = ("start_project", "unique")

PAGE = """<!doctype html><html lang="en"><title>Report</title>
<script type="module" src="/jobtastic.js"></script>
<jobtastic-progress src="/task/{}/status/" label="Report"></jobtastic-progress>"""

#: What a run says of itself that is heard of.
NEWS = re.compile("left$|^Almost done$")


@pytest.fixture
def cut_off(start_project: Callable[..., Project], redis_server: Any) -> Iterator[CutOff]:
    with ExitStack() as stack:
        yield CutOff(start_project(**IN_TIME), redis_server.port, stack)


def show(page: Page, served: Site, task_id: str) -> Locator:
    """Open a page of a site, and return its bar."""
    module, body = STATIC / "jobtastic_ext" / "jobtastic.js", PAGE.format(task_id)
    page.route("**/jobtastic.js", lambda route: route.fulfill(path=module))
    page.route("**/page", lambda route: route.fulfill(body=body, content_type="text/html"))
    page.goto(f"http://127.0.0.1:{served.port}/page")
    return page.locator("jobtastic-progress")


def test_a_percentage_that_is_old_looks_so(browser: Browser, cut_off: CutOff, unique: str) -> None:
    """The result backend alone is out of the worker's reach, on a page that hears and one that
    asks.
    """
    with ExitStack() as stack:
        result = cut_off.start(steps=2_000, gate=unique)
        bars = []
        for framework in ("asgi", "flask"):
            served = stack.enter_context(site(framework, cut_off.project.app))
            context = browser.new_context(**STILL)
            stack.callback(context.close)
            bars.append(show(context.new_page(), served, result.id))
        for bar in bars:
            expect(bar.locator('[part="text"]')).to_have_text(NEWS)
        cut_off.silence(cut_off.results)
        for bar in bars:
            expect(bar).to_have_attribute("unconfirmed", "")
            expect(bar).to_have_attribute("state", "progress")
            expect(bar.locator('[part="text"]')).to_contain_text("No news at the moment")
        cut_off.results.open()
        for bar in bars:
            expect(bar).not_to_have_attribute("unconfirmed", "")
            expect(bar.locator('[part="text"]')).to_have_text(NEWS)
        cut_off.project.notes.open(unique)
        for bar in bars:
            expect(bar.locator('[part="text"]')).to_contain_text("Done in")


def test_no_news_is_no_end(page: Page, cut_off: CutOff, unique: str) -> None:
    with site("asgi", cut_off.project.app) as served:
        result = cut_off.start(steps=2_000, gate=unique)
        page.clock.install()
        text = show(page, served, result.id).locator('[part="text"]')
        expect(text).to_have_text(NEWS)
        cut_off.silence(cut_off.store, cut_off.results)
        expect(text).to_contain_text("No news of your task since")
        cut_off.store.open()
        cut_off.results.open()
        wait_until(lambda: not cut_off.is_lost(result.id))
        page.clock.fast_forward(20_000)  # it asks four times a minute
        expect(text).to_have_text(NEWS)
        cut_off.project.notes.open(unique)
        expect(text).to_contain_text("Done")
