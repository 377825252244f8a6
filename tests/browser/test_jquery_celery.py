"""jquery-celery's own three scripts, unmodified, before our status JSON and on our plugin.

They carry no licence, so they are not part of this repository.  Name a folder that holds them
(``celery.js``, ``celery.progressbar.js``, ``celery.datatables.js``) in ``$JQUERY_CELERY``.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser.stub import Stub, progress, task
from tests.browser.test_jquery import DATATABLES, ID, JQUERY

FOLDER = os.environ.get("JQUERY_CELERY")

pytestmark = pytest.mark.skipif(
    not FOLDER, reason="set JQUERY_CELERY to a folder with jquery-celery's scripts"
)

PROGRESSBAR = """
<p class="loading">Please wait</p>
<div class="progress_container">
  <span class="time_remaining"></span><div class="progress"><div class="bar"></div></div>
</div>
<div class="results"><h4>Results</h4></div>
"""

TABLES = """
<div id="task_progress">
  <p class="loading">Updating</p><p class="loading progress_percentage"></p>
  <p class="loading progress_estimate"></p>
</div>
<table id="good" style="display: none"></table>
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


@pytest.fixture(params=["jquery-celery", "our plugin"])
def open_page(
    request: pytest.FixtureRequest, page: Page, stub: Stub, vendored: Callable[[str, str], str]
) -> Callable[[str, str, str], None]:
    """Open a page with one of the helper scripts, on the djcelery of theirs or of ours."""
    kind = "text/javascript; charset=utf-8"
    scripts = {"jquery.js": vendored(*JQUERY), "tables.js": vendored(*DATATABLES)}
    for path in Path(FOLDER or "").glob("*.js"):
        scripts[path.name] = path.read_text("utf-8")
    for name, source in scripts.items():
        stub.files[f"/vendor/{name}"] = (kind, source.encode())
    plugin = {
        "jquery-celery": "/vendor/celery.js",
        "our plugin": "/static/jobtastic_ext/jobtastic.jquery.js",
    }[request.param]

    def open_page(body: str, config: str, helper: str) -> None:
        sources = ["/vendor/jquery.js", "/vendor/tables.js", plugin]
        head = "".join(f'<script src="{source}"></script>' for source in sources)
        head += f'<script>{config}</script><script src="/vendor/{helper}"></script>'
        page.clock.install()
        page.goto(stub.page(body, head=head))

    return open_page


def until(page: Page, holds: Callable[[], bool]) -> None:
    """Let the page's clock run, as its five seconds between two questions are fixed."""
    for _ in range(60):
        if holds():
            return
        page.clock.run_for(1000)
        page.wait_for_timeout(50)
    raise AssertionError("waited in vain")


def test_its_progress_bar(page: Page, stub: Stub, open_page: Callable[..., None]) -> None:
    done = task("SUCCESS", {"total_time": 12, "url": "/file.csv"})
    stub.status(ID, [task("PENDING"), progress(0), progress(40, 33.4), progress(80, 8), done])
    open_page(PROGRESSBAR, f"var task_id = {json.dumps(ID)}", "celery.progressbar.js")
    bar = page.locator(".bar")
    until(page, lambda: "40%" in (bar.get_attribute("style") or ""))
    expect(page.locator(".time_remaining")).to_have_text("Approximate time left: 33 seconds")
    until(page, lambda: "80%" in (bar.get_attribute("style") or ""))
    until(page, lambda: page.locator("a", has_text="Download Here").count() == 1)
    asked = len(stub.asked("/status/"))
    page.clock.run_for(60_000)
    page.wait_for_timeout(500)
    assert len(stub.asked("/status/")) == asked


def test_its_failure(page: Page, stub: Stub, open_page: Callable[..., None]) -> None:
    stub.status(ID, [progress(40, 33), task("FAILURE", "division by zero")])
    open_page(PROGRESSBAR, f"var task_id = {json.dumps(ID)}", "celery.progressbar.js")
    until(page, lambda: page.locator(".results .error").count() == 1)


def test_its_datatable(page: Page, stub: Stub, open_page: Callable[..., None]) -> None:
    rows = [{"created": 3, "updated": 4}]
    done = task("SUCCESS", {"resultStatus": "success", "rowData": rows})
    stub.status(ID, [progress(0, -1), progress(40, 33), done])
    open_page(TABLES, CONFIG % ID, "celery.datatables.js")
    until(page, lambda: page.locator(".progress_percentage").inner_text() == "40% complete")
    until(page, lambda: page.locator("#good tbody td").count() == 2)
    assert page.locator("#good tbody td").all_inner_texts() == ["3", "4"]
