"""What people see of a run whose worker reaches neither store nor result backend, and runs on."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from playwright.sync_api import Page, expect

from tests.browser.stub import STATIC
from tests.integration.conftest import Project, start_project
from tests.web.sites import site
from tests.web.test_cut_off import CutOff

BOUNDED = True

__all__ = ("start_project",)

PAGE = """<!doctype html><html lang="en"><title>Report</title>
<script type="module" src="/jobtastic.js"></script>
<jobtastic-progress src="/task/{}/status/" label="Report"></jobtastic-progress>"""


def test_no_news_is_no_end(
    page: Page, start_project: Callable[..., Project], redis_server: Any
) -> None:
    module = STATIC / "jobtastic_ext" / "jobtastic.js"
    with ExitStack() as stack:
        cut_off = CutOff(start_project(), redis_server.port, stack)
        pages = stack.enter_context(site("asgi", cut_off.project.app))
        result = cut_off.start(steps=1_200)  # a minute
        page.route("**/jobtastic.js", lambda route: route.fulfill(path=module))
        body = PAGE.format(result.id)
        page.route("**/page", lambda route: route.fulfill(body=body, content_type="text/html"))
        page.goto(f"http://127.0.0.1:{pages.port}/page")
        text = page.locator('[part="text"]')
        expect(text).to_contain_text(re.compile("left|Working"))
        cut_off.silence(cut_off.store, cut_off.results)
        expect(text).to_contain_text("No news of your task since", timeout=60_000)
        cut_off.store.open()
        cut_off.results.open()
        expect(text).to_have_text(re.compile("left$|^Almost done$"), timeout=60_000)
        expect(text).to_contain_text("Done", timeout=120_000)
