"""What somebody puts into a task's result, messages or texts is shown, and never run."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.browser.stub import Stub, progress, task
from tests.browser.test_element import bar, forget_failed_loads
from tests.browser.test_jquery import DATATABLES, JQUERY

RUN = "window.ran=(window.ran||0)+1"

#: Ways to run a script from a text that is taken for markup, or for a part of a script.
MARKUP = [
    f"<img src=x onerror={RUN}>",
    f'<img src=x onerror="{RUN}">',
    f"<img/src=x/onerror={RUN}>",
    f"<IMG SRC=x ONERROR={RUN}//",
    f"<img\nsrc=x\nonerror={RUN}>",
    f"<img\tsrc=x\tonerror={RUN}>",
    f"<script>{RUN}</script>",
    f"<scr<script>ipt>{RUN}</scr</script>ipt>",
    f"</td><script>{RUN}</script><td>",
    f"</script><script>{RUN}</script>",
    f"</title><img src=x onerror={RUN}>",
    f"</textarea><img src=x onerror={RUN}>",
    f"<svg onload={RUN}>",
    f"<svg><script>{RUN}</script></svg>",
    f"<svg><animate onbegin={RUN} attributeName=x dur=1s>",
    f"<math><mtext></p><img src=x onerror={RUN}></mtext></math>",
    f"<video><source onerror={RUN}></video>",
    f"<audio src=x onerror={RUN}></audio>",
    f"<details open ontoggle={RUN}>x</details>",
    f"<input autofocus onfocus={RUN}>",
    f"<iframe srcdoc='<script>parent.{RUN}</script>'></iframe>",
    f"<iframe src='javascript:parent.{RUN}'></iframe>",
    f"<object data='javascript:{RUN}'></object>",
    f"<style onload={RUN}></style>",
    f"<body onload={RUN}>",
    f'"><img src=x onerror={RUN}>',
    f"'><img src=x onerror={RUN}>",
    f'" onmouseover="{RUN}" autofocus onfocus="{RUN}" x="',
    f"&lt;img src=x onerror={RUN}&gt;",
    f"&amp;lt;img src=x onerror={RUN}&amp;gt;",
    f"&#60;img src=x onerror={RUN}&#62;",
    f"<!--><img src=x onerror={RUN}>-->",
    f"<![CDATA[><img src=x onerror={RUN}>]]>",
    f"<noscript><p title='</noscript><img src=x onerror={RUN}>'></noscript>",
    f"{{{{constructor.constructor('{RUN}')()}}}}",
    f"${{{RUN}}}",
    f"javascript:{RUN}",
]

#: DataTables takes a text with `&` for markup, and a line separator leads it past its own guard.
SEPARATED = [
    f"<img src=x\u2028onerror={RUN}> & more",
    f"<img\u2029src=x onerror={RUN}> & more",
    f"a & b \u2028<img\u2028src=x\u2029onerror={RUN}>",
    f"&<svg\u2028onload={RUN}>",
    f"\u2029&amp;<img src=x \u2028 onerror={RUN}>",
]

PAYLOADS = [*MARKUP, *SEPARATED]

assert len(PAYLOADS) >= 40


def settle(page: Page) -> None:
    """Wait until whatever would run has run: handlers of a good and of a bad image have."""
    page.evaluate(
        """() => Promise.all(['data:,', 'data:image/gif;base64,R0lGODlhAQABAAAAACw='].map(
          (src) => new Promise((done) => {
            const image = new Image();
            image.onload = image.onerror = done;
            image.src = src;
          })))"""
    )
    page.wait_for_timeout(200)


def assert_nothing_ran(page: Page) -> None:
    settle(page)
    assert page.evaluate("window.ran ?? 0") == 0


def test_the_payloads_run_where_they_are_taken_for_markup(
    page: Page, stub: Stub, console: list[str]
) -> None:
    """Otherwise nothing would be shown by their not running."""
    page.goto(stub.page("<div id='here'></div>"))
    page.evaluate("html => { here.innerHTML = html }", MARKUP[0])
    page.wait_for_function("window.ran === 1")
    forget_failed_loads(console)


def test_the_element(page: Page, stub: Stub) -> None:
    page.goto(stub.page("<div id='here'></div>"))
    page.wait_for_function("() => !!customElements.get('jobtastic-progress')")
    shown = page.evaluate(
        """payloads => payloads.map((payload) => {
          const bar = document.createElement('jobtastic-progress');
          bar.setAttribute('label', payload);
          here.append(bar);
          const text = (part) => bar.shadowRoot.querySelector(`[part="${part}"]`).textContent;
          const seen = [text('label')];
          for (const [status, result] of [
            ['FAILURE', payload], ['PROGRESS', {progress_percent: 5, message: payload}],
            ['PROGRESS', {progress_percent: payload, time_remaining: payload}],
            ['SUCCESS', payload], [payload, payload],
          ]) {
            bar.show({status, result, exc: payload});
            seen.push(text('message'));
          }
          bar.strings = {pending: payload, left: payload, label: payload, estimated: payload};
          bar.show({status: 'PENDING', queue: {ahead: payload, starts_in: payload}});
          seen.push(text('text'));
          bar.setAttribute('strings', JSON.stringify({failure: payload}));
          bar.show({status: 'FAILURE', result: null});
          seen.push(text('text'));
          return seen;
        })""",
        PAYLOADS,
    )
    for payload, seen in zip(PAYLOADS, shown, strict=True):
        assert seen == [payload, payload, payload, "", "", "", payload, payload]
    assert_nothing_ran(page)


def test_reports_of_the_wrong_kind(page: Page, stub: Stub) -> None:
    """A message that is no text, a percentage that is none: the bar goes on."""
    odd: list[Any] = [
        1, True, [], {}, {"length": 9_999}, {"toString": 1}, None, 1e308, -1, "", [["x"]],
        "\ud800", "x" * 100_000,
    ]  # fmt: skip
    reports = [progress(7, message=one) for one in odd]
    reports += [task("PROGRESS", one) for one in odd]
    reports += [task("PROGRESS", {"progress_percent": one, "time_remaining": one}) for one in odd]
    reports += [task("PENDING", one, queue=one) for one in odd]
    reports += [task("FAILURE", one) for one in odd] + [task("OWN", one) for one in odd]
    page.goto(stub.page("<jobtastic-progress></jobtastic-progress>"))
    page.wait_for_function("() => !!customElements.get('jobtastic-progress')")
    for report in reports:
        page.evaluate("task => document.querySelector('jobtastic-progress').show(task)", report)
    page.evaluate(
        "task => document.querySelector('jobtastic-progress').show(task)", progress(40, 120)
    )
    expect(bar(page)).to_have_attribute("aria-valuenow", "40")


@pytest.mark.parametrize("tables", [False, True], ids=["plain", "datatables"])
def test_the_plugin(
    page: Page, stub: Stub, vendored: Callable[[str, str], str], tables: bool
) -> None:
    kind = "text/javascript; charset=utf-8"
    stub.files["/jquery.js"] = (kind, vendored(*JQUERY).encode())
    head = '<script src="/jquery.js"></script>'
    if tables:
        stub.files["/tables.js"] = (kind, vendored(*DATATABLES).encode())
        head += '<script src="/tables.js"></script>'
    head += '<script src="/static/jobtastic_ext/jobtastic.jquery.js"></script>'
    page.goto(stub.page("<div id='here'></div>", head=head))
    rows = [{"text": one, one: one, "deep": [one, {one: one}], "n": 1} for one in PAYLOADS]
    columns = [[PAYLOADS[n], PAYLOADS[n]] for n in range(3)]
    columns += [["text", "text"], ["deep", "deep"], ["n", "n"]]
    page.evaluate(
        """([rows, columns, caption]) => {
          const table = $('<table>').appendTo('#here');
          table.jobtasticTable(rows, {columns, caption, options: {pageLength: 100}});
        }""",
        [rows, columns, PAYLOADS[0]],
    )
    assert page.locator("th").all_text_contents() == [*PAYLOADS[:3], "text", "deep", "n"]
    expect(page.locator("caption")).to_have_text(PAYLOADS[0])
    assert sorted(page.locator("td:nth-child(4)").all_text_contents()) == sorted(PAYLOADS)
    if tables:
        # What sorts and searches reads the cells in ways of its own.
        for number in range(6):
            page.locator("th").nth(number).click()
        for word in ("img", "& more", "onerror", "\u2028", "<svg"):
            page.locator("input[type=search]").fill(word)
            found = page.locator("td:nth-child(4)").all_text_contents()
            # A line separator hides from DataTables what comes after it.
            plain = [x for x in MARKUP if all(part in x.lower() for part in word.split())]
            assert word == "\u2028" or sorted(set(found) - set(SEPARATED)) == sorted(plain), word
        page.evaluate("void $('table').DataTable().columns.adjust().draw()")
    # And on the way of a task: its keys, where no columns are given.
    stub.status("a", [task("SUCCESS", {"rows": rows[:3]})])
    page.evaluate(
        """() => void $('<div>').appendTo('#here').jobtastic({
          task_id: 'a', label: '<b>', table: {rows: 'rows'}})"""
    )
    page.wait_for_function("() => document.querySelectorAll('table').length > 1")
    assert_nothing_ran(page)


@pytest.mark.parametrize(
    "options",
    [
        "{columnDefs: [{targets: 0, width: '30%'}]}",
        "{aoColumnDefs: [{aTargets: [0], sWidth: '30%'}]}",
        "{columns: [{title: 'text', className: 'wide'}]}",
        "{columnDefs: [{targets: 0, render: (value) => $.fn.dataTable.util.escapeHtml"
        " ? $.fn.dataTable.util.escapeHtml(value) : $('<i>').text(value).html()}]}",
    ],
    ids=["columnDefs", "aoColumnDefs", "columns", "render"],
)
def test_columns_of_ones_own_are_escaped_too(
    page: Page, stub: Stub, vendored: Callable[[str, str], str], options: str
) -> None:
    kind = "text/javascript; charset=utf-8"
    stub.files["/jquery.js"] = (kind, vendored(*JQUERY).encode())
    stub.files["/tables.js"] = (kind, vendored(*DATATABLES).encode())
    names = ("/jquery.js", "/tables.js", "/static/jobtastic_ext/jobtastic.jquery.js")
    head = "".join(f'<script src="{name}"></script>' for name in names)
    page.goto(stub.page("<table></table>", head=head))
    page.evaluate(
        f"""rows => void $('table').jobtasticTable(rows, {{
          columns: [['text', 'text']], options: {{...{options}, pageLength: 100}}}})""",
        [{"text": one} for one in PAYLOADS],
    )
    assert sorted(page.locator("td").all_text_contents()) == sorted(PAYLOADS)
    assert_nothing_ran(page)


@pytest.mark.parametrize("result", [None, 7, "rows", {}, [None, 1, "x", []], {"rows": 5}], ids=repr)
def test_a_result_that_is_no_table(
    page: Page, stub: Stub, vendored: Callable[[str, str], str], result: Any
) -> None:
    stub.files["/jquery.js"] = ("text/javascript", vendored(*JQUERY).encode())
    head = (
        '<script src="/jquery.js"></script>'
        '<script src="/static/jobtastic_ext/jobtastic.jquery.js"></script>'
    )
    stub.status("a", [task("SUCCESS", result)])
    page.goto(stub.page("<div id='here'></div>", head=head))
    page.evaluate(
        """() => void $('#here').jobtastic({
          task_id: 'a', table: {rows: 'rows'}, on_success: () => { window.told = true }})"""
    )
    page.wait_for_function("window.told")


#: Names of the document that the client asks for, or might.
NAMES = (
    "currentScript", "hidden", "createElement", "addEventListener", "customElements", "head",
    "body", "baseURI", "querySelector", "visibilityState", "reportError", "jobtastic", "fetch",
)  # fmt: skip


def test_what_is_named_like_a_property_of_the_document(
    page: Page, stub: Stub, vendored: Callable[[str, str], str], console: list[str]
) -> None:
    """An image with the name currentScript takes that property's place."""
    stub.files["/jquery.js"] = ("text/javascript", vendored(*JQUERY).encode())
    stub.files["/evil/jobtastic.js"] = ("text/javascript", f"{RUN}".encode())
    places = "".join(
        f"<img name={name} id={name} src=/evil/jobtastic.jquery.js><form name={name}></form>"
        for name in NAMES
    )
    stub.status("a", [progress(40, 5)])
    stub.status("b", [progress(41, 5)])
    html = stub.page(
        f"""<jobtastic-progress src="/task/a/status/"></jobtastic-progress>
        <script src="/jquery.js"></script><div id="here"></div>
        <span>{places}</span>
        <script src="/static/jobtastic_ext/jobtastic.jquery.js"></script>
        <script>$('#here').jobtastic({{task_id: 'b', bar: false, on_other: (task) => {{
          window.told = task.result.progress_percent }}}})</script>"""
    )
    page.goto(html)
    expect(bar(page)).to_have_attribute("aria-valuenow", "40")
    page.wait_for_function("window.told === 41")
    # A page that counts as hidden would ask four times a minute.
    wait = itertools.count()
    while len(stub.asked("/task/a/status/")) < 4:
        page.wait_for_timeout(100)
        assert next(wait) < 300, "it takes the page for hidden"
    assert page.evaluate("window.ran ?? 0") == 0
    forget_failed_loads(console)


def test_the_client_reads_no_named_property() -> None:
    """By its text: of the document, only what cannot be shadowed."""
    from tests.browser.stub import STATIC

    for name in ("jobtastic.js", "jobtastic.jquery.js"):
        text = (STATIC / "jobtastic_ext" / name).read_text()
        assert "innerHTML" not in text
        assert "insertAdjacentHTML" not in text
        assert "document.currentScript" not in text
        assert "document.createElement" not in text
