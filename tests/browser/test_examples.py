"""The three example projects in a real browser, with a real worker, broker and result backend."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
import redis
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Page, Route, expect

from jobtastic_ext.testing.server import LOOPBACK, EmbeddedServer, free_port
from jobtastic_ext.testing.worker import Worker
from tests.browser.conftest import STILL
from tests.servers import wait_until

EXAMPLES = Path(__file__).parent.parent.parent / "config_examples"

#: Where screenshots are kept for somebody to look at; nowhere, unless this is set.
SCREENSHOTS = os.environ.get("JOBTASTIC_TEST_SCREENSHOTS")


class Example:
    """One example project: broker, result backend, worker and page, each a process of its own."""

    APPS = {"django_project": "division", "fastapi_app": "tasks", "flask_app": "tasks"}  # noqa: RUF012

    def __init__(self, name: str, folder: Path, lease: float | None = None) -> None:
        """`lease`: of another length than it comes with; not for Django, which has its settings."""
        self.name, self.root, self.scratch = name, EXAMPLES / name, folder
        self._lease = lease
        with ExitStack() as self.stack:
            self._start()
            self.stack = self.stack.pop_all()

    def _start(self) -> None:
        self.broker = self.stack.enter_context(EmbeddedServer())
        self.results = self.stack.enter_context(EmbeddedServer())
        self.port = free_port()
        self.environ = {
            "BROKER_URL": self.broker.url(0),
            "RESULT_BACKEND": self.results.url(0),
            "PORT": str(self.port),
            "WORKER": "no",
            "PYTHONWARNINGS": "ignore",
        }
        if self._lease is not None:
            # What Celery reads by itself for an app that names no settings.
            (self.scratch / "short.py").write_text(f"jobtastic_lease = {self._lease}\n")
            self.environ |= {"CELERY_CONFIG_MODULE": "short", "PYTHONPATH": str(self.scratch)}
        self.log = self.scratch / "worker.log"
        self.worker = self.start_worker()
        self._start_page()

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.port}/"

    def start_worker(self) -> Worker:
        worker = Worker(
            self.log, self.APPS[self.name], concurrency=2, folder=self.root, environ=self.environ
        )
        self.stack.callback(worker.kill)
        worker.wait_until_ready(60)
        return worker

    @contextmanager
    def worker_stopped(self) -> Iterator[None]:
        """Nothing is begun meanwhile."""
        os.kill(self.worker.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self.worker.pid, signal.SIGCONT)

    def _start_page(self) -> None:
        log = self.stack.enter_context((self.scratch / "page.log").open("wb"))
        process = subprocess.Popen(
            [sys.executable, "start.py"],
            cwd=self.root,
            env={**os.environ, **self.environ},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        self.stack.callback(process.wait, 20)
        self.stack.callback(process.kill)

        def answers() -> bool:
            assert process.poll() is None, (self.scratch / "page.log").read_text()
            try:
                with urlopen(self.url, timeout=5) as reply:
                    return bool(reply.status == 200)
            except OSError:
                return False

        wait_until(answers)

    def runs(self, task_id: str) -> int:
        """How often a task's body has ended well, once the log has it: the page has it earlier."""
        said = f"Task division.lots_of_division[{task_id}] succeeded"
        wait_until(lambda: said in self.log.read_text())
        return self.log.read_text().count(said)

    def answers(self, path: str) -> set[str]:
        """With which status codes the server has answered for a path, once it has noted any."""
        noted = rf'"GET {re.escape(path)} HTTP/1.1" (\d+)'

        def found() -> set[str]:
            log = (self.scratch / "page.log").read_text()
            return set(re.findall(noted, re.sub("\x1b\\[\\d*m", "", log)))  # Flask's colours

        wait_until(found)
        return found()


@pytest.fixture(scope="module", params=sorted(Example.APPS))
def example(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Example]:
    example = Example(request.param, tmp_path_factory.mktemp("example"))
    yield example
    example.stack.close()


class Console:
    """What pages wrote on the browser's console that should not be there."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def hear(self, page: Page) -> None:
        page.on("console", lambda said: self.note(said.type, said.text, said.location["url"]))
        page.on("pageerror", lambda error: self.lines.append(str(error)))

    def note(self, kind: str, text: str, url: str) -> None:
        clicked_again = "503" in text and url.endswith("/")  # by `divide`
        if kind in ("error", "warning") and not clicked_again:
            self.lines.append(text)

    def forget_failed_loads(self) -> None:
        """The browser itself notes each answer of 500 and more; nothing can prevent it."""
        self.lines = [x for x in self.lines if not x.startswith("Failed to load resource")]


@pytest.fixture
def lines() -> Console:
    return Console()


@pytest.fixture
def context(browser: Browser, lines: Console) -> Iterator[BrowserContext]:
    context = browser.new_context(viewport={"width": 800, "height": 900}, **STILL)
    context.on("page", lines.hear)
    yield context
    context.close()
    assert lines.lines == []


@pytest.fixture
def tab(context: BrowserContext) -> Page:
    return context.new_page()


_numbers = iter(range(1, 10_000))


def fill(page: Page, example: Example, count: int, *, fails: bool = False) -> None:
    """Fill the form with numbers that no other test has."""
    first = next(_numbers)
    page.goto(example.url)
    page.get_by_label("Numerators").fill(" ".join(str(first + n) for n in range(count)))
    divisors = ["7"] * (count - 1) + (["0"] if fails else ["8"])
    page.get_by_label("Denominators").fill(" ".join(divisors))


def divide(page: Page) -> str:
    """Click until the broker has taken it, and return the id of the task.

    On a busy machine that may take longer than the second which the page gives it.
    """
    for _ in range(5):
        with page.expect_navigation():
            page.get_by_role("button", name="Divide").click()
        if "?task=" in page.url:
            break
    return page.url.partition("?task=")[2]


def bar(page: Page) -> Any:
    return page.get_by_role("progressbar")


def state(page: Page) -> str:
    return str(page.evaluate("document.querySelector('jobtastic-progress').state"))


def shot(page: Page, example: Example, name: str) -> None:
    if SCREENSHOTS:
        folder = Path(SCREENSHOTS)
        folder.mkdir(parents=True, exist_ok=True)
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
            page.screenshot(path=folder / f"{example.name}-{name}-{scheme}.png")
        page.emulate_media(color_scheme="light")


def is_accessible(page: Page) -> None:
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()


#: Notes each percentage that is told, and the seconds that are left.
NOTE_PROGRESS = """() => {
  window.seen = [];
  document.querySelector('jobtastic-progress').addEventListener('progress', ({ detail }) => {
    const { progress_percent: percent, time_remaining: left } = detail.result;
    if (seen.at(-1)?.[0] !== percent) seen.push([percent, left]);
  });
}"""


def test_the_bar_moves_and_the_table_appears(tab: Page, example: Example) -> None:
    fill(tab, example, 60)
    is_accessible(tab)
    with example.worker_stopped():  # until the page is there, however long that takes
        task_id = divide(tab)
        expect(bar(tab)).to_be_visible()
        shot(tab, example, "pending")
        tab.evaluate(NOTE_PROGRESS)
    wait_until(lambda: tab.evaluate("seen.length >= 3"))
    shot(tab, example, "progress")
    is_accessible(tab)
    wait_until(lambda: state(tab) == "success")
    seen = tab.evaluate("seen")
    percents = [percent for percent, _ in seen]
    assert percents == sorted(percents)
    known = [seconds for _, seconds in seen if seconds >= 0]
    assert known[-1] < max(known), known
    assert bar(tab).get_attribute("aria-valuenow") == "100"
    table = tab.get_by_role("table")
    expect(table).to_be_visible()
    expect(table.get_by_role("row")).to_have_count(61)
    assert example.runs(task_id) == 1
    assert example.answers(f"/task/{task_id}/events/") == {
        # Told by events where there are any; elsewhere one answer says that there are none.
        "200" if example.name == "fastapi_app" else "204"
    }
    shot(tab, example, "success")
    is_accessible(tab)


def test_nothing_runs_but_the_pages_own_files(tab: Page, example: Example, lines: Console) -> None:
    """A strict Content-Security-Policy, and Trusted Types: the client needs neither loosened."""
    reply = tab.goto(example.url)
    assert reply is not None
    policy = reply.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    said = tab.evaluate(
        """() => {
          try { document.body.innerHTML = '<img src=x onerror="window.ran = 1">'; }
          catch (error) { return error.name; }
        }"""
    )
    assert said == "TypeError"
    assert tab.evaluate("window.ran ?? 0") == 0
    lines.lines.clear()  # the browser has told of what it refused


def test_a_double_click_and_a_second_tab_share_one_run(
    tab: Page, context: BrowserContext, example: Example
) -> None:
    fill(tab, example, 40)
    numbers = tab.get_by_label("Numerators").input_value()
    divisors = tab.get_by_label("Denominators").input_value()
    tab.get_by_role("button", name="Divide").dblclick()
    # Not `wait_for_url`: the second click aborts the first one's navigation, which it would report.
    expect(tab).to_have_url(re.compile(r"/\?task="))
    task_id = tab.url.partition("task=")[2]
    other = context.new_page()
    other.goto(example.url)
    other.get_by_label("Numerators").fill(numbers)
    other.get_by_label("Denominators").fill(divisors)
    assert divide(other) == task_id
    for page in (tab, other):
        expect(page.get_by_role("table")).to_be_visible()
    assert example.runs(task_id) == 1
    assert example.log.read_text().count(f"[{task_id}] received") == 1


@pytest.mark.parametrize("example", ["django_project"], indirect=True)
def test_who_has_not_asked_does_not_see(tab: Page, browser: Browser, example: Example) -> None:
    """The same numbers are one task, to all who asked for it; a link alone opens nothing."""
    fill(tab, example, 12)
    numbers = [tab.get_by_label(name).input_value() for name in ("Numerators", "Denominators")]
    task_id = divide(tab)
    expect(tab.get_by_role("table")).to_be_visible()
    other = browser.new_context()
    try:
        reply = other.request.get(f"{example.url}task/{task_id}/status/")
        assert reply.status == 403
        page = other.new_page()
        page.goto(example.url)
        for name, value in zip(("Numerators", "Denominators"), numbers, strict=True):
            page.get_by_label(name).fill(value)
        assert divide(page) == task_id
        expect(page.get_by_role("table")).to_be_visible()
    finally:
        other.close()
    assert example.runs(task_id) == 1


def test_the_recipe_of_the_docs_is_what_the_example_runs() -> None:
    recipe = (EXAMPLES / "django_project" / "division" / "whose.py").read_text()
    code = recipe.split("\n", 2)[2]  # without its docstring
    assert f"```python\n{code}```" in (EXAMPLES.parent / "docs" / "web.md").read_text()


def test_a_task_that_fails_says_why(tab: Page, example: Example) -> None:
    fill(tab, example, 12, fails=True)
    divide(tab)
    expect(tab.locator('jobtastic-progress [part="message"]')).to_contain_text("division by zero")
    assert state(tab) == "failure"
    expect(tab.get_by_role("table")).to_have_count(0)
    shot(tab, example, "failure")
    is_accessible(tab)


def test_numbers_that_are_none(tab: Page, example: Example, lines: Console) -> None:
    tab.goto(example.url)
    tab.get_by_label("Numerators").fill("1 two 3")
    tab.get_by_role("button", name="Divide").click()
    expect(tab.get_by_role("alert")).to_contain_text("Not a number")
    is_accessible(tab)
    lines.forget_failed_loads()  # the answer is 400


def test_errors_that_pass(tab: Page, example: Example, lines: Console) -> None:
    """The status view answers 500 three times, then as it should."""
    failures = 3

    def fail(route: Route) -> None:
        nonlocal failures
        failures -= 1
        if failures >= 0:
            route.fulfill(status=500, body="oops")
        else:
            route.continue_()

    tab.route("**/status/*", fail)
    tab.route("**/events/*", lambda route: route.fulfill(status=204))
    fill(tab, example, 20)
    divide(tab)
    expect(tab.get_by_role("table")).to_be_visible()
    assert failures < 0
    lines.forget_failed_loads()


def test_a_page_that_is_left_asks_no_more(tab: Page, example: Example) -> None:
    # As the browser sends them: the server may note the last ones when the page is long left.
    asked: list[str] = []
    tab.on("request", lambda request: asked.append(request.url))
    fill(tab, example, 100)
    task_id = divide(tab)
    wait_until(lambda: state(tab) == "progress")
    assert [url for url in asked if f"/task/{task_id}/" in url]
    tab.goto("about:blank")
    asked.clear()
    tab.wait_for_timeout(3000)
    assert asked == []
    # Nor is anything heard for it any more.
    with redis.Redis.from_url(example.results.url(0)) as results:
        channel = f"celery-task-meta-{task_id}"
        wait_until(lambda: results.pubsub_numsub(channel)[0][1] == 0)


def test_the_broker_is_down(tab: Page, example: Example, lines: Console) -> None:
    fill(tab, example, 10)
    example.broker.kill()
    try:
        began = time.monotonic()
        tab.get_by_role("button", name="Divide").click()
        expect(tab.get_by_role("alert")).to_contain_text("could not be started")
        assert time.monotonic() - began < 20
        shot(tab, example, "broker-down")
        is_accessible(tab)
    finally:
        example.broker.start()

    def is_served() -> bool:
        with tab.expect_navigation():
            tab.get_by_role("button", name="Divide").click()
        return "?task=" in tab.url

    wait_until(is_served)  # it is known to be back a moment after it is
    lines.forget_failed_loads()  # the answer is 503


@pytest.mark.parametrize("example", ["fastapi_app"], indirect=True)
def test_in_an_outage_a_page_on_events_says_that_it_knows_nothing(
    tab: Page, example: Example, lines: Console
) -> None:
    """It showed the old words for 40 s, as if they were news."""
    fill(tab, example, 200)  # longer than the outage: Celery tries 20 s to store a result
    divide(tab)
    wait_until(lambda: state(tab) == "progress")
    element = tab.locator("jobtastic-progress")
    example.results.kill()
    try:
        expect(element).to_have_attribute("unconfirmed", "", timeout=30_000)
        expect(element.locator('[part="text"]')).to_contain_text("No news at the moment")
        shot(tab, example, "unconfirmed")
    finally:
        example.results.start()
    wait_until(lambda: state(tab) == "success", 60)
    expect(element).not_to_have_attribute("unconfirmed", "")
    lines.forget_failed_loads()  # the answers were 503


@pytest.fixture
def examples(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], list[Example]]]:
    """Two at once, for what takes a while: one whose page hears events, and one whose page asks.

    To be named before `context`: pages that live longer than their servers complain of it.
    """
    with ExitStack() as stack:

        def start() -> list[Example]:
            both = []
            for name in ("fastapi_app", "flask_app"):
                both.append(Example(name, tmp_path_factory.mktemp("killed"), lease=4))
                stack.callback(both[-1].stack.close)
            return both

        yield start


def test_a_worker_that_is_killed(
    examples: Callable[[], list[Example]], context: BrowserContext
) -> None:
    """The page ends with a message once the run's lease is over, and not in a spinner."""
    tabs: list[tuple[Page, Example]] = []
    killed: dict[Page, tuple[float, float]] = {}
    for example in examples():
        tab = context.new_page()
        fill(tab, example, 200)
        divide(tab)
        wait_until(lambda tab=tab: state(tab) == "progress")
        before = time.time()
        example.worker.kill()
        killed[tab] = (before, time.time())
        tabs.append((tab, example))
    for tab, example in tabs:
        tab.bring_to_front()  # a hidden tab asks less often
        wait_until(lambda tab=tab: state(tab) == "failure", 60)
        task = tab.evaluate("document.querySelector('jobtastic-progress').task")
        assert task["lost"] is True
        before, after = killed[tab]
        assert before - 8 < task["heard"] < after + 1  # its lease of 4 s had been renewed
        shot(tab, example, "lost")
        is_accessible(tab)
