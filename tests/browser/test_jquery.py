"""The jQuery plugin: the bar, jquery-celery's call, and a result of rows as a table."""

from __future__ import annotations

import threading
from collections.abc import Callable
from itertools import groupby, pairwise
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.browser.stub import Stub, progress, task

ID = "0f2f1a3e-7f9d-4f0a-9a52-3c3a4f5e6d70"
JQUERY = ("XStatic-jQuery", "xstatic/pkg/jquery/data/jquery.min.js")
DATATABLES = (
    "XStatic-DataTables",
    "xstatic/pkg/datatables/data/js/jquery.dataTables.min.js",
)

ROWS = [
    {"customer": "<b>Ann</b> & Co", "total": 12.5, "tags": None},
    {"customer": "Bob", "total": 7, "tags": ["a"]},
]

HEAD = """
<script src="/vendor/jquery.js"></script>
%s
<script src="/static/jobtastic_ext/jobtastic.jquery.js"></script>
<script>
  window.calls = [];
  function note(name) {
    return function (task, el) { calls.push([name, task && task.status, el.attr('id')]); };
  }
  $.extend($.jobtastic.defaults, {
    on_success: note('success'), on_failure: note('failure'), on_other: note('other'),
    on_error: note('error')
  });
  $(function () { %s });
</script>
"""


@pytest.fixture
def open_page(page: Page, stub: Stub, vendored: Callable[[str, str], str]) -> Callable[..., None]:
    """Open a page that has jQuery, and runs `script` when it is ready."""

    def open_page(script: str, body: str = '<div id="here"></div>', tables: bool = False) -> None:
        kind = "text/javascript; charset=utf-8"
        stub.files["/vendor/jquery.js"] = (kind, vendored(*JQUERY).encode())
        more = ""
        if tables:
            stub.files["/vendor/tables.js"] = (kind, vendored(*DATATABLES).encode())
            more = '<script src="/vendor/tables.js"></script>'
        path = stub.page(body, head=HEAD % (more, script))
        # The plugin has to load the client by itself.
        kind, html = stub.files[path.removeprefix(stub.url)]
        module = b'<script type="module" src="/static/jobtastic_ext/jobtastic.js"></script>'
        assert module in html
        stub.files[path.removeprefix(stub.url)] = (kind, html.replace(module, b""))
        page.goto(path)

    return open_page


def calls(page: Page, names: int) -> list[list[Any]]:
    page.wait_for_function("count => calls.length >= count", arg=names)
    page.wait_for_timeout(300)
    seen: list[list[Any]] = page.evaluate("calls")
    return seen


def test_a_bar_and_call_backs(page: Page, stub: Stub, open_page: Callable[..., None]) -> None:
    stub.status(ID, [task("PENDING"), progress(40, 120)])
    open_page(f"$('#here').jobtastic({{task_id: '{ID}', label: 'Report', check_interval: 300}})")
    expect(page.get_by_role("progressbar", name="Report")).to_have_attribute("aria-valuenow", "40")
    stub.status(ID, [task("RETRY"), task("SUCCESS", 1)])
    expect(page.locator('#here [part="text"]')).to_have_text("Done")
    seen = [each for each, _ in groupby(calls(page, 3))]
    assert seen == [
        ["other", "PROGRESS", "here"],
        ["other", "RETRY", "here"],
        ["success", "SUCCESS", "here"],
    ]


@pytest.mark.parametrize("status", ["FAILURE", "REVOKED"])
def test_jquery_celerys_call(
    page: Page, stub: Stub, open_page: Callable[..., None], status: str
) -> None:
    stub.status(ID, [task("PENDING"), task("STARTED"), progress(40), task(status, "no")])
    open_page(
        f"""$('#here').djcelery({{
          task_id: '{ID}', check_interval: 250,
          on_success: note('mine'), on_failure: note('mine'), on_other: note('mine')
        }})"""
    )
    assert calls(page, 3) == [
        ["mine", "STARTED", "here"],
        ["mine", "PROGRESS", "here"],
        ["mine", status, "here"],
    ]
    assert page.locator("jobtastic-progress").count() == 0
    # When they were sent: a busy server notes them when it gets to it.
    asked = page.evaluate(
        """performance.getEntriesByType('resource').filter(({name}) => name.includes('/status/'))
          .map(({startTime}) => startTime)"""
    )
    assert len(asked) == len(stub.asked("/status/")) == 4
    assert all(later - before >= 240 for before, later in pairwise(asked))


def test_an_id_that_is_none_is_an_error_and_asks_nothing(
    page: Page, stub: Stub, open_page: Callable[..., None]
) -> None:
    open_page("$('#here').djcelery({task_id: '', check_interval: 100})")
    assert calls(page, 1) == [["error", None, "here"]]
    assert stub.asked("/task/") == []


def test_a_status_that_cannot_be_had_is_an_error(
    page: Page, stub: Stub, open_page: Callable[..., None], console: list[str]
) -> None:
    stub.status("a%2Fb", [404])
    open_page("$('#here').djcelery({task_id: 'a/b'})")
    assert calls(page, 1) == [["error", None, "here"]]
    assert len(stub.asked("/task/a%2Fb/status/")) == 4
    console[:] = [line for line in console if not line.startswith("Failed to load resource")]


def test_what_is_not_confirmed_looks_so(
    page: Page, stub: Stub, open_page: Callable[..., None], console: list[str]
) -> None:
    seen = threading.Event()
    stub.status(ID, [progress(10), 503, 503, seen, 503, progress(20)])
    open_page(f"$('#here').jobtastic({{task_id: '{ID}'}})")
    bar = page.locator("#here jobtastic-progress")
    expect(bar).to_have_attribute("unconfirmed", "")
    seen.set()
    expect(bar).not_to_have_attribute("unconfirmed", "")
    console[:] = [line for line in console if not line.startswith("Failed to load resource")]


@pytest.mark.parametrize("end", ["$('#here').jobtastic('stop')", "$('#here').remove()"])
def test_stopped_or_removed_it_asks_no_more(
    page: Page, stub: Stub, open_page: Callable[..., None], end: str
) -> None:
    stub.status(ID, [progress(10)])
    open_page(f"$('#here').jobtastic({{task_id: '{ID}'}})")
    calls(page, 2)
    page.evaluate(f"void {end}")
    assert stub.asks_no_more(page)


def test_stopped_at_once_it_leaves_nothing(
    page: Page, stub: Stub, open_page: Callable[..., None]
) -> None:
    stub.status(ID, [progress(10)])
    open_page(f"$('#here').jobtastic({{task_id: '{ID}'}}).jobtastic('stop')")
    page.wait_for_function("() => !!customElements.get('jobtastic-progress')")
    page.wait_for_timeout(300)
    assert page.locator("jobtastic-progress").count() == 0
    assert stub.asked("/task/") == []


def test_a_second_call_takes_the_place_of_the_first(
    page: Page, stub: Stub, open_page: Callable[..., None]
) -> None:
    stub.status(ID, [progress(10)])
    stub.status("b", [progress(20)])
    stub.status("c", [task("SUCCESS")])
    open_page(f"$('#here').jobtastic({{task_id: '{ID}'}}).jobtastic({{task_id: 'b'}})")
    assert calls(page, 1)[0][:2] == ["other", "PROGRESS"]
    assert stub.asked(ID) == []
    assert page.locator("jobtastic-progress").count() == 1
    page.evaluate("void $('#here').jobtastic({task_id: 'c'})")
    expect(page.locator('[part="text"]')).to_have_text("Done")
    assert page.locator("jobtastic-progress").count() == 1


def cells(page: Page, part: str = "tbody td") -> list[str]:
    return [cell.strip() for cell in page.locator(f"table {part}").all_inner_texts()]


def test_rows_become_a_plain_table(page: Page, stub: Stub, open_page: Callable[..., None]) -> None:
    stub.status(ID, [task("SUCCESS", ROWS)])
    open_page(f"$('#here').jobtastic({{task_id: '{ID}', table: {{caption: 'Totals'}}}})")
    calls(page, 1)
    assert cells(page, "thead th") == ["customer", "total", "tags"]
    assert cells(page) == ["<b>Ann</b> & Co", "12.5", "", "Bob", "7", '["a"]']
    assert page.locator("caption").inner_text() == "Totals"
    assert page.locator("td b").count() == 0


def test_rows_become_a_datatable(page: Page, stub: Stub, open_page: Callable[..., None]) -> None:
    stub.status(ID, [task("SUCCESS", {"rows": ROWS})])
    open_page(
        f"""$('#here').jobtastic({{task_id: '{ID}', table: {{
          table: '#rows', rows: 'rows', caption: 'Totals',
          columns: [['<i>Who', 'customer'], ['Sum', 'total', (value) => value * 2], ['', '']],
          options: {{paging: false}}
        }}}})""",
        body='<div id="here"></div><table id="rows" style="display: none"></table>',
        tables=True,
    )
    calls(page, 1)
    assert page.evaluate("$.fn.dataTable.isDataTable('#rows')")
    assert cells(page, "thead th") == ["<i>Who", "Sum", ""]
    assert cells(page) == ["<b>Ann</b> & Co", "25", "", "Bob", "14", ""]
    page.locator("th", has_text="Sum").click()
    assert cells(page)[1::3] == ["14", "25"]
    page.locator("input[type=search]").fill("Bob")
    assert cells(page)[0] == "Bob"
    # Filled again, it is the new rows that stand there.
    page.evaluate("void $('#rows').jobtasticTable([[1, 2]], {columns: [['a', 0], ['b', 1]]})")
    assert cells(page) == ["1", "2"]


def test_a_table_that_cannot_be_made_keeps_nothing_else_back(
    page: Page, stub: Stub, open_page: Callable[..., None], console: list[str]
) -> None:
    stub.status(ID, [task("SUCCESS", ROWS)])
    open_page(
        f"""$('#here').jobtastic({{task_id: '{ID}', table: {{
          rows: function () {{ throw new Error('no such rows'); }}
        }}}})"""
    )
    assert calls(page, 1) == [["success", "SUCCESS", "here"]]
    expect(page.locator('#here [part="text"]')).to_have_text("Done")
    assert len(console) == 1
    assert "no such rows" in console.pop()


def test_no_rows(page: Page, stub: Stub, open_page: Callable[..., None]) -> None:
    stub.status(ID, [task("SUCCESS", [])])
    open_page(
        f"$('#here').jobtastic({{task_id: '{ID}', table: {{columns: [['Who', 0]]}}}})", tables=True
    )
    calls(page, 1)
    assert cells(page, "thead th") == ["Who"]
