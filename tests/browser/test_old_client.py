"""jquery-celery's own three scripts, unmodified, on the status views of Django and Flask.

They carry no licence, so they are not part of this repository.  Name a folder that holds them
(``celery.js``, ``celery.progressbar.js``, ``celery.datatables.js``) in ``$JQUERY_CELERY``.
"""

from __future__ import annotations

import json
import os
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from tests.integration.conftest import Project
from tests.web.conftest import project, unique
from tests.web.sites import Site, site

__all__ = ("project", "unique")

FOLDER = os.environ.get("JQUERY_CELERY")

pytestmark = pytest.mark.skipif(
    not FOLDER, reason="set JQUERY_CELERY to a folder with jquery-celery's scripts"
)

JQUERY = ("XStatic-jQuery", "xstatic/pkg/jquery/data/jquery.min.js")
DATATABLES = ("XStatic-DataTables", "xstatic/pkg/datatables/data/js/jquery.dataTables.min.js")

BAR = """
<p class="loading">Please wait</p>
<div class="progress_container">
  <span class="time_remaining"></span><div class="progress"><div class="bar"></div></div>
</div>
<div class="results"><h4>Results</h4></div>
"""

TABLE = """
<p class="loading progress_percentage"></p><p class="loading progress_estimate"></p>
<div id="task_progress"></div><table id="good" style="display: none"></table>
"""

CONFIG = """
var djceleryConfigs = {
  taskId: '%s', selector: '#task_progress', tableSelector: '#task_progress',
  table: {success: {
    resultsTable: '#good', captionCallback: function () { return 'Completed'; },
    columns: [['Created', 'created'], ['Updated', 'updated']], options: {bFilter: false}
  }}
};
"""


@pytest.fixture(scope="module", params=["django", "flask"])
def pages(request: pytest.FixtureRequest, project: Project) -> Iterator[Site]:
    with site(request.param, project.app) as served:
        yield served


@pytest.fixture
def opened(
    browser: Browser, pages: Site, vendored: Callable[[str, str], str]
) -> Iterator[Callable[[str, str, str], Page]]:
    """Open a page of the same server with the old scripts, which ask ``/task/<id>/status/``."""
    context = browser.new_context()
    wrong: list[str] = []

    def open_page(body: str, config: str, helper: str) -> Page:
        scripts = [vendored(*JQUERY), vendored(*DATATABLES), config]
        scripts += [Path(FOLDER or "", name).read_text("utf-8") for name in ("celery.js", helper)]
        head = "".join(f"<script>{script}</script>" for script in scripts)
        html = f'<!doctype html><link rel="icon" href="data:,">{head}{body}'
        page = context.new_page()
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.clock.install()  # they ask every five seconds
        page.route("**/page", lambda route: route.fulfill(body=html, content_type="text/html"))
        page.goto(f"http://127.0.0.1:{pages.port}/page")
        return page

    yield open_page
    context.close()
    assert wrong == []


def until(page: Page, holds: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline
        page.clock.run_for(1000)
        page.wait_for_timeout(50)


def tell(project: Project, task_id: str, percent: float, seconds: float) -> None:
    report = {"progress_percent": percent, "time_remaining": seconds}
    project.app.backend.store_result(task_id, report, "PROGRESS")


def test_its_progress_bar(project: Project, opened: Any) -> None:
    task_id = str(uuid.uuid4())
    page = opened(BAR, f"var task_id = {json.dumps(task_id)}", "celery.progressbar.js")
    page.clock.run_for(6000)  # PENDING
    tell(project, task_id, 40, 33.4)
    bar = page.locator(".bar")
    until(page, lambda: "40%" in (bar.get_attribute("style") or ""))
    left = page.locator(".time_remaining").inner_text()
    assert left == "Approximate time left: 33 seconds"
    result = {"total_time": 12, "url": "/file.csv"}
    project.task("plain").apply_async((result,), task_id=task_id)  # a real worker ends it
    until(page, lambda: page.locator("a", has_text="Download Here").count() == 1)


def test_its_failure(project: Project, opened: Any, unique: str) -> None:
    task_id = str(uuid.uuid4())
    page = opened(BAR, f"var task_id = {json.dumps(task_id)}", "celery.progressbar.js")
    project.task("fails").apply_async((unique,), {"delay": 0}, task_id=task_id)
    until(page, lambda: page.locator(".results .error").count() == 1)


def test_its_datatable(project: Project, opened: Any) -> None:
    task_id = str(uuid.uuid4())
    tell(project, task_id, 40, 33)
    page = opened(TABLE, CONFIG % task_id, "celery.datatables.js")
    until(page, lambda: page.locator(".progress_percentage").inner_text() == "40% complete")
    result = {"resultStatus": "success", "rowData": [{"created": 3, "updated": 4}]}
    project.task("plain").apply_async((result,), task_id=task_id)
    until(page, lambda: page.locator("#good tbody td").count() == 2)
    assert page.locator("#good tbody td").all_inner_texts() == ["3", "4"]
