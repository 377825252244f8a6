"""jquery-celery's own three scripts, unmodified, on the status views of Django and Flask.

They carry no licence, so they are not part of this repository.  Name a folder that holds them
(``celery.js``, ``celery.progressbar.js``, ``celery.datatables.js``) in ``$JQUERY_CELERY``.
"""

from __future__ import annotations

import json
import os
import re
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from playwright.sync_api import Browser, Page

from jobtastic_ext import JobtasticStep
from jobtastic_ext.testing.server import EmbeddedServer
from tests.integration.conftest import Project, start_project
from tests.web.conftest import project, unique
from tests.web.sites import Site, site

BOUNDED = True

__all__ = ("project", "start_project", "unique")

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
    deadline = time.monotonic() + 60
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


class Old:
    """Pages with the old scripts, which share a browser and nothing else."""

    def __init__(self, browser: Browser, vendored: Callable[[str, str], str]) -> None:
        self._browser, self._stack = browser, ExitStack()
        scripts = [vendored(*JQUERY), read("celery.js"), read("celery.progressbar.js")]
        self._script = "\n".join(scripts)

    def __enter__(self) -> Old:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def open(self, framework: str, app: Celery, task_id: str, **options: Any) -> Page:
        served = self._stack.enter_context(site(framework, app, **options))
        context = self._browser.new_context()
        self._stack.callback(context.close)
        page = context.new_page()
        page.clock.install()
        body = f"<!doctype html>{BAR}<script>var task_id = '{task_id}'; {self._script}</script>"
        page.route("**/page", lambda route: route.fulfill(body=body, content_type="text/html"))
        page.goto(f"http://127.0.0.1:{served.port}/page")
        return page


@pytest.fixture
def old(browser: Browser, vendored: Callable[[str, str], str]) -> Iterator[Old]:
    with Old(browser, vendored) as pages:
        yield pages


def width(page: Page) -> str:
    return str(page.locator(".bar").get_attribute("style"))


def errors(page: Page) -> int:
    return page.locator(".results .error").count()


def test_an_outage_of_twelve_seconds(old: Old) -> None:
    """It gives up for good at its second 503; `legacy` answers what it skips."""
    with EmbeddedServer() as server:
        app = Celery("old", set_as_current=False)
        app.conf.update(broker_url=server.url(1), result_backend=server.url(0))
        app.conf.jobtastic_policy = {"tasks": {"old.export": {"cache_duration": "1h"}}}
        app.steps["worker"].add(JobtasticStep)
        task_id = str(uuid.uuid4())
        survivors = [old.open(name, app, task_id, legacy=True) for name in ("django", "flask")]
        given_up = old.open("flask", app, task_id)
        report = {"progress_percent": 40, "time_remaining": 33.4}
        app.backend.store_result(task_id, report, "PROGRESS")
        for page in (*survivors, given_up):
            until(page, lambda page=page: "40%" in width(page))
        server.kill()
        for page in (*survivors, given_up):
            page.clock.run_for(12_000)
        until(given_up, lambda: errors(given_up) >= 1)
        server.restart()
        app.backend.store_result(task_id, {"total_time": 12, "url": "/file.csv"}, "SUCCESS")
        for page in survivors:
            until(page, lambda page=page: page.locator("a", has_text="Download").count() == 1)
            assert errors(page) == 0


def test_a_killed_worker(old: Old, start_project: Callable[..., Project]) -> None:
    """It leaves a claim behind that nobody renews: the task has failed."""
    project = start_project()
    worker = project.worker(concurrency=1)
    result = project.task("progress").delay(1_200)
    pages = [old.open(name, project.app, result.id) for name in ("django", "flask")]
    for page in pages:
        until(page, lambda page=page: re.search(r"[1-9][.\d]*%", width(page)))
        assert errors(page) == 0
    worker.kill()
    for page in pages:
        until(page, lambda page=page: errors(page) >= 1)


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
