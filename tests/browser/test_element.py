"""`<jobtastic-progress>` in a real browser, before a server that plays scripts."""

from __future__ import annotations

import re
import threading
from typing import Any

from playwright.sync_api import Browser, Page, Request, expect

from tests.browser.stub import Step, Stub, progress, task
from tests.servers import wait_until

#: Notes the events of every bar, and each step of the (last) bar as assistive software reads it.
RECORD = """
<script>
  window.seen = [];
  window.steps = [];
  addEventListener('DOMContentLoaded', () => {
    for (const element of document.querySelectorAll('jobtastic-progress')) {
      for (const name of ['progress', 'success', 'failure', 'error']) {
        element.addEventListener(name, (event) => seen.push(
          [name, event.detail.status, event.detail.result ?? null]));
      }
      const bar = element.shadowRoot.querySelector('[role=progressbar]');
      const note = () => {
        const now = [bar.getAttribute('aria-valuenow'), bar.getAttribute('aria-valuetext')];
        if (String(now) !== String(steps.at(-1))) steps.push(now);
      };
      note();
      new MutationObserver(note).observe(bar, {attributes: true});
    }
  });
</script>
"""


def element(path: str, more: str = "") -> str:
    return f'<jobtastic-progress src="{path}" {more}></jobtastic-progress>'


def opened(page: Page, stub: Stub, steps: list[Step], more: str = "") -> None:
    page.goto(stub.page(element(stub.status("a", steps), more), head=RECORD))


def seen(page: Page) -> list[list[Any]]:
    events: list[list[Any]] = page.evaluate("seen")
    return events


def bar(page: Page) -> Any:
    return page.get_by_role("progressbar")


def text(page: Page) -> Any:
    return page.locator('[part="text"]')


def forget_failed_loads(console: list[str]) -> None:
    """The browser itself writes each answer of 500 to the console; nothing can prevent it."""
    console[:] = [line for line in console if not line.startswith("Failed to load resource")]


def test_from_waiting_to_done(page: Page, stub: Stub) -> None:
    slow = {"retry_after": 0.4}
    opened(
        page,
        stub,
        [
            task("PENDING", **slow),
            progress(0) | slow,
            progress(25, 300) | slow,
            progress(60.4, 120, message="Sheet 3 of 7") | slow,
            progress(90, 20) | slow,
            task("SUCCESS", {"rows": 3}),
        ],
        'label="Quarterly report"',
    )
    expect(text(page)).to_have_text("Done")
    assert page.evaluate("steps") == [
        [None, "Waiting for your task to begin"],
        ["0", "0%, Your task has begun"],
        ["25", "25%, about 5 minutes left"],
        ["60", "60%, about 2 minutes left"],
        ["90", "90%, about 20 seconds left"],
        ["100", "Done"],
    ]
    assert [name for name, *_ in seen(page)] == ["progress"] * 4 + ["success"]
    assert seen(page)[-1] == ["success", "SUCCESS", {"rows": 3}]
    expect(bar(page)).to_have_attribute("aria-label", "Quarterly report")
    page.wait_for_function(
        """() => {
          const {shadowRoot} = document.querySelector('jobtastic-progress');
          const width = (part) => shadowRoot.querySelector(`[part=${part}]`).offsetWidth;
          return width('track') > 100 && width('fill') === width('track');
        }"""
    )

    assert stub.asks_no_more(page)


def test_a_failure_shows_its_message_as_text(page: Page, stub: Stub) -> None:
    opened(page, stub, [progress(40), task("FAILURE", "<img src=x onerror=alert(1)> is not a row")])
    expect(text(page)).to_have_text("Your task failed")
    message = page.locator('[part="message"]')
    expect(message).to_have_text("<img src=x onerror=alert(1)> is not a row")
    expect(page.get_by_role("status")).to_contain_text("is not a row")
    assert page.locator("img").count() == 0
    assert seen(page)[-1][0] == "failure"
    # It stays where it stood.
    expect(bar(page)).to_have_attribute("aria-valuenow", "40")


def test_only_changes_of_state_are_read_aloud(page: Page, stub: Stub) -> None:
    opened(page, stub, [progress(10, 300)])
    aloud = page.get_by_role("status")
    expect(aloud).to_have_text("about 5 minutes left")
    stub.status("a", [progress(50, 120)])
    expect(text(page)).to_have_text("about 2 minutes left")
    expect(aloud).to_have_text("about 5 minutes left")
    stub.status("a", [task("SUCCESS")])
    expect(aloud).to_have_text("Done")


def test_lost_revoked_and_long_messages(page: Page, stub: Stub) -> None:
    page.clock.install(time=1_700_000_000)
    lost = task("FAILURE", "worker lost", lost=True, heard=1_700_000_000)
    opened(page, stub, [lost])
    since = page.evaluate("new Date(1.7e12).toLocaleTimeString('en', { timeStyle: 'short' })")
    expect(text(page)).to_have_text(
        f"No news of your task since {since}. It may be lost: you can start it again"
    )
    opened(page, stub, [task("REVOKED")])
    expect(text(page)).to_have_text("Your task was cancelled")
    opened(page, stub, [task("FAILURE", "long " * 100_000)])
    expect(text(page)).to_have_text("Your task failed")
    assert len(page.locator('[part="message"]').inner_text()) < 1100


def test_500_three_times_is_not_shown(page: Page, stub: Stub, console: list[str]) -> None:
    opened(page, stub, [progress(10), 500, None, 500, task("SUCCESS")])
    expect(text(page)).to_have_text("Done")
    assert [name for name, *_ in seen(page)] == ["progress", "success"]
    forget_failed_loads(console)


def test_an_outage_that_lasts_is_shown_and_passes(
    page: Page, stub: Stub, console: list[str]
) -> None:
    doubted, told = threading.Event(), threading.Event()
    steps = [progress(10), 500, 500, doubted, 500, 500, told, progress(20), task("SUCCESS")]
    opened(page, stub, steps)
    # What is not confirmed looks so, before it is called an outage.
    element = page.locator("jobtastic-progress")
    expect(element).to_have_attribute("unconfirmed", "")
    expect(element).to_have_attribute("state", "progress")
    expect(text(page)).to_have_text("No news at the moment. Still trying")
    doubted.set()
    expect(text(page)).to_have_text("No connection to the server. Still trying")
    expect(bar(page)).to_have_attribute("aria-valuenow", "10")
    told.set()
    expect(text(page)).to_have_text("Done")
    expect(element).not_to_have_attribute("unconfirmed", "")
    assert [name for name, *_ in seen(page)] == ["progress", "error", "progress", "success"]
    forget_failed_loads(console)


def test_a_page_that_was_told_lost_hears_better_of_it(page: Page, stub: Stub) -> None:
    """A worker may be cut off, and run on; and who starts it again has the same id."""
    page.clock.install()
    lost = task("FAILURE", "worker lost", lost=True, heard=1_700_000_000)
    under_way: set[Request] = set()
    page.on("request", lambda request: under_way.add(request))
    page.on("requestfinished", lambda request: under_way.discard(request))
    opened(page, stub, [progress(10), lost, lost, progress(40, 120), task("SUCCESS")])

    def is_done() -> bool:
        page.wait_for_timeout(20)
        if not under_way:  # whose time runs as fast
            page.clock.run_for(1000)
        return text(page).text_content() == "Done"

    wait_until(is_done)
    words = [each for _, each in page.evaluate("steps")]
    assert [each.partition(" since")[0] for each in words[-3:]] == [
        "No news of your task",
        "40%, about 2 minutes left",
        "Done",
    ]
    assert [name for name, *_ in seen(page)] == ["progress", "failure", "progress", "success"]


def test_a_list_is_many_bars_on_one_request(page: Page, stub: Stub, console: list[str]) -> None:
    def told(*tasks: dict[str, Any]) -> Step:
        return {"tasks": [one | {"id": f"t{n}"} for n, one in enumerate(tasks)]}

    soon = {"retry_after": 0.3}
    stub.status(
        "list",
        [
            told(task("PENDING", **soon), progress(10, 120) | soon, progress(50) | soon),
            told(progress(5) | soon, progress(20, 120) | soon, task("SUCCESS", 1)),
            *[503] * 4,
            told(progress(6) | soon, task("FAILURE", "no"), task("SUCCESS", 1)),
            told(task("SUCCESS", 7), task("FAILURE", "no"), task("SUCCESS", 1)),
        ],
    )
    bars = '<jobtastic-progress task="t1" label="Second"></jobtastic-progress>'
    aborted: list[str] = []
    page.on("requestfailed", lambda request: aborted.append(request.url))
    page.goto(
        stub.page(f'<jobtastic-list src="/list/status/">{bars}</jobtastic-list>', head=RECORD)
    )
    expect(page.locator("jobtastic-progress")).to_have_count(3)
    expect(page.get_by_role("progressbar", name="Second")).to_have_attribute("aria-valuenow", "20")
    # In an outage, those that have ended stay as they are.
    states = "[...document.querySelectorAll('jobtastic-progress')].map((bar) => bar.state)"
    page.wait_for_function(f"String({states}) === 'error,error,success'")
    page.wait_for_function(f"String({states}) === 'failure,success,success'")
    assert aborted == []
    assert stub.asks_no_more(page)
    assert len(stub.asked("/list/status/")) == 8
    assert seen(page)[-1] == ["failure", "FAILURE", "no"]  # of the one that was there
    assert [name for name, *_ in seen(page)].count("failure") == 1
    forget_failed_loads(console)


def test_no_permission_is_final(page: Page, stub: Stub, console: list[str]) -> None:
    opened(page, stub, [403])
    expect(text(page)).to_have_text("The state of your task cannot be read")
    assert stub.asks_no_more(page)
    forget_failed_loads(console)


def test_removing_the_element_stops_it(page: Page, stub: Stub) -> None:
    opened(page, stub, [progress(10)])
    expect(bar(page)).to_have_attribute("aria-valuenow", "10")
    page.evaluate("document.querySelector('jobtastic-progress').remove()")
    assert stub.asks_no_more(page)


def test_leaving_the_page_stops_it_and_coming_back_goes_on(page: Page, stub: Stub) -> None:
    opened(page, stub, [progress(10)])
    expect(bar(page)).to_have_attribute("aria-valuenow", "10")
    page.goto(stub.page("Elsewhere"))
    assert stub.asks_no_more(page)
    stub.status("a", [task("SUCCESS")])
    page.go_back()
    expect(text(page)).to_have_text("Done")


def test_another_src_is_followed_instead(page: Page, stub: Stub) -> None:
    opened(page, stub, [task("SUCCESS", 1)])
    expect(text(page)).to_have_text("Done")
    path = stub.status("b", [progress(30)])
    page.evaluate(f"document.querySelector('jobtastic-progress').src = '{path}'")
    expect(bar(page)).to_have_attribute("aria-valuenow", "30")
    page.evaluate("document.querySelector('jobtastic-progress').removeAttribute('src')")
    assert stub.asks_no_more(page, "/task/b/")


def test_a_finished_bar_that_is_moved_asks_nothing(page: Page, stub: Stub) -> None:
    opened(page, stub, [task("SUCCESS", 1)])
    expect(text(page)).to_have_text("Done")
    page.evaluate("document.body.append(document.querySelector('jobtastic-progress'))")
    page.wait_for_timeout(500)
    assert len(stub.asked("/status/")) == 1


def test_events_move_the_bar_without_polling(page: Page, stub: Stub) -> None:
    more, end = threading.Event(), threading.Event()
    stub.events("a", [progress(20), more, progress(70), end, task("SUCCESS", 1)])
    opened(page, stub, [progress(10)])
    expect(bar(page)).to_have_attribute("aria-valuenow", "20")
    more.set()
    expect(bar(page)).to_have_attribute("aria-valuenow", "70")
    page.wait_for_timeout(1000)
    end.set()
    expect(text(page)).to_have_text("Done")
    assert len(stub.asked("/status/")) == 1
    assert len(stub.asked("/events/")) == 1
    assert stub.stream_ended.wait(10)


def test_leaving_the_page_ends_the_stream(page: Page, stub: Stub) -> None:
    stub.events("a", [progress(20)])
    opened(page, stub, [progress(10)])
    expect(bar(page)).to_have_attribute("aria-valuenow", "20")
    page.goto(stub.page("Elsewhere"))
    assert stub.stream_ended.wait(10)
    page.wait_for_timeout(500)
    assert len(stub.asked("/events/")) == 1


def test_ten_bars_leave_connections_for_the_page(page: Page, stub: Stub) -> None:
    # HTTP/1.1 gives a server six connections in all; streams that took them would halt the page.
    bars = []
    for number in range(10):
        stub.events(f"t{number}", [progress(20)])
        bars.append(element(stub.status(f"t{number}", [progress(10)])))
    page.goto(stub.page("".join(bars)))
    wait_until(lambda: all(len(stub.asked(f"/t{n}/status/")) for n in range(10)))
    wait_until(lambda: len(stub.asked("/events/")) == 2)
    assert page.evaluate("fetch('/task/t0/status/').then((answer) => answer.status)") == 200


def test_a_hidden_tab_asks_seldom(browser: Browser, stub: Stub) -> None:
    # Headless Chromium never hides a tab by itself, so the page is told that it is hidden.
    context = browser.new_context()
    page = context.new_page()
    opened(page, stub, [progress(10)])
    wait_until(lambda: len(stub.asked("/status/")) > 3)
    hide = """(hidden) => {
      Object.defineProperty(document, 'hidden', {value: hidden, configurable: true});
      document.dispatchEvent(new Event('visibilitychange'));
    }"""
    page.evaluate(hide, True)
    page.wait_for_timeout(1000)  # what it may have begun to wait for
    assert stub.asks_no_more(page, seconds=3)
    asked = len(stub.asked("/status/"))
    page.evaluate(hide, False)
    wait_until(lambda: len(stub.asked("/status/")) > asked)
    context.close()


def test_words_of_ones_own(page: Page, stub: Stub) -> None:
    path = stub.status("a", [progress(40, 120)])
    german = '{"lang": "de", "left": "noch etwa {time}", "label": "Fortschritt"}'
    page.goto(stub.page(element(path, f"strings='{german}'")))
    expect(text(page)).to_have_text("noch etwa 2 Minuten")
    expect(bar(page)).to_have_attribute("aria-label", "Fortschritt")
    page.evaluate(
        "document.querySelector('jobtastic-progress').strings = {left: 'encore {time}', lang: 'fr'}"
    )
    expect(text(page)).to_have_text(re.compile(r"encore 2\sminutes"))


def test_words_for_the_whole_page_and_before_the_element_is_known(page: Page, stub: Stub) -> None:
    path = stub.status("a", [task("PENDING")])
    head = """
    <script>addEventListener('readystatechange', () => {
      const late = document.querySelector('#late');
      if (late && !late.shadowRoot) late.strings = {pending: 'One moment'};
    }, true)</script>
    <script type="module">
      import { strings } from '/static/jobtastic_ext/jobtastic.js';
      strings.pending = 'Please wait';
    </script>"""
    page.goto(stub.page(element(path, 'id="late"') + element(path), head=head))
    expect(text(page).nth(0)).to_have_text("One moment")
    expect(text(page).nth(1)).to_have_text("Please wait")


def test_strings_that_are_not_json_are_told(page: Page, stub: Stub, console: list[str]) -> None:
    opened(page, stub, [task("SUCCESS")], 'strings="{oops"')
    expect(text(page)).to_have_text("Done")
    assert len(console) == 1
    assert "strings" in console.pop()


def test_under_a_strict_content_security_policy(page: Page, stub: Stub) -> None:
    path = stub.status("a", [progress(50)])
    policy = (
        '<meta http-equiv="Content-Security-Policy" content="'
        "default-src 'none'; script-src 'self'; connect-src 'self'; style-src 'none'; "
        "img-src data:; require-trusted-types-for 'script'\">"
    )
    html = (
        f'<!doctype html><html lang="en"><head>{policy}<title>Test</title>'
        '<link rel="icon" href="data:,">'
        '<script type="module" src="/static/jobtastic_ext/jobtastic.js"></script></head>'
        f"<body>{element(path)}</body></html>"
    )
    stub.files["/strict"] = ("text/html; charset=utf-8", html.encode())
    page.goto(stub.url + "/strict")
    expect(bar(page)).to_have_attribute("aria-valuenow", "50")
    expect(page.locator('[part="track"]')).to_have_css("overflow", "hidden")


def test_less_motion_for_those_who_ask(page: Page, stub: Stub) -> None:
    opened(page, stub, [task("PENDING")])
    fill = page.locator('[part="fill"]')
    page.emulate_media(reduced_motion="no-preference")
    expect(fill).to_have_css("animation-name", "pass")
    page.emulate_media(reduced_motion="reduce")
    expect(fill).to_have_css("animation-name", "none")
    expect(fill).to_have_css("transition-duration", "0s")
