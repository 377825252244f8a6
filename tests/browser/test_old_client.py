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
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from billiard.exceptions import WorkerLostError
from celery import Celery
from playwright.sync_api import Browser, Page

from jobtastic_ext import JobtasticStep
from jobtastic_ext.testing.server import EmbeddedServer
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
    until(page, lambda: page.locator(".results .error").count() >= 1)


def test_an_outage_of_twelve_seconds_and_a_killed_worker(
    browser: Browser, vendored: Callable[[str, str], str]
) -> None:
    """It gives up for good at its second 503; `legacy` answers what it skips."""
    script = "\n".join([vendored(*JQUERY), read("celery.js"), read("celery.progressbar.js")])
    with EmbeddedServer() as server, ExitStack() as stack:
        app = Celery("old", set_as_current=False)
        app.conf.update(broker_url=server.url(1), result_backend=server.url(0))
        app.conf.jobtastic_policy = {"tasks": {"old.export": {"cache_duration": "1h"}}}
        app.steps["worker"].add(JobtasticStep)
        pages: dict[str, Page] = {}
        task_id = str(uuid.uuid4())
        for name, legacy in (("django", True), ("flask", True), ("flask", False)):
            served = stack.enter_context(site(name, app, legacy=legacy))
            context = browser.new_context()
            stack.callback(context.close)
            page = pages[f"{name} {legacy}"] = context.new_page()
            page.clock.install()
            body = f"<!doctype html>{BAR}<script>var task_id = '{task_id}'; {script}</script>"
            page.route(
                "**/page",
                lambda route, _, body=body: route.fulfill(body=body, content_type="text/html"),
            )
            page.goto(f"http://127.0.0.1:{served.port}/page")
        report = {"progress_percent": 40, "time_remaining": 33.4}
        app.backend.store_result(task_id, report, "PROGRESS")
        for page in pages.values():
            until(page, lambda page=page: "40%" in str(page.locator(".bar").get_attribute("style")))
        server.kill()
        for page in pages.values():
            page.clock.run_for(12_000)
        given_up = pages["flask False"]
        until(given_up, lambda: given_up.locator(".results .error").count() >= 1)
        server.restart()
        app.backend.store_result(task_id, {"total_time": 12, "url": "/file.csv"}, "SUCCESS")
        for name in ("django True", "flask True"):
            page = pages[name]
            until(page, lambda page=page: page.locator("a", has_text="Download").count() == 1)
            assert page.locator(".results .error").count() == 0
        # What a killed worker leaves behind is a failure to it.
        page = pages["flask True"]
        gone = str(uuid.uuid4())
        app.backend.store_result(gone, WorkerLostError("killed"), "FAILURE")
        page.evaluate("id => { window.task_id = id }", gone)
        page.add_script_tag(content=read("celery.progressbar.js"))
        until(page, lambda: page.locator(".results .error").count() >= 1)


def read(name: str) -> str:
    return Path(FOLDER or "", name).read_text("utf-8")


def test_its_datatable(project: Project, opened: Any) -> None:
    task_id = str(uuid.uuid4())
    tell(project, task_id, 40, 33)
    page = opened(TABLE, CONFIG % task_id, "celery.datatables.js")
    until(page, lambda: page.locator(".progress_percentage").inner_text() == "40% complete")
    result = {"resultStatus": "success", "rowData": [{"created": 3, "updated": 4}]}
    project.task("plain").apply_async((result,), task_id=task_id)
    until(page, lambda: page.locator("#good tbody td").count() == 2)
    assert page.locator("#good tbody td").all_inner_texts() == ["3", "4"]
