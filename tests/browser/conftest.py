"""The system's Chromium, driven by Playwright, before a server that plays scripts."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, distribution
from typing import Any

import pytest

from tests.browser.stub import Stub
from tests.servers import TIMEOUT
from tests.untried import missing, need

try:
    from playwright.sync_api import Browser, ConsoleMessage, Page, expect, sync_playwright
except ImportError:  # pragma: no cover
    sync_playwright = None
else:
    expect.set_options(timeout=1000 * TIMEOUT)

#: What it may be called.  The shell, which has no window, takes a third of the processor time.
CHROMIUM = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")

LAUNCH = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


#: Of a page: without a graphics card the processor draws what moves, sixty times a second.
STILL: Any = {"reduced_motion": "reduce"}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Not kept for the whole run: Playwright holds an event loop, and asyncio.run wants none."""
    path = next(filter(None, map(shutil.which, CHROMIUM)), None) or need("chromium")
    if sync_playwright is None:
        missing("playwright is not installed", module="playwright")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=LAUNCH)
        yield browser
        browser.close()


@pytest.fixture
def stub() -> Iterator[Stub]:
    with Stub() as stub:
        yield stub


@pytest.fixture
def console() -> list[str]:
    """Errors and warnings of the page; a test that expects some takes them out."""
    return []


@pytest.fixture
def page(browser: Browser, console: list[str], stub: Stub) -> Iterator[Page]:
    """A page of its own, closed before its server, that must leave nothing on the console."""

    def note(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            console.append(message.text)

    context = browser.new_context(viewport={"width": 720, "height": 320}, **STILL)
    page = context.new_page()
    page.on("console", note)
    page.on("pageerror", lambda error: console.append(str(error)))
    yield page
    context.close()
    assert console == []


@pytest.fixture(scope="session")
def vendored() -> Callable[[str, str], str]:
    """Read a script that a Python package of the extra ``[test]`` carries."""

    def read(package: str, path: str) -> str:
        try:
            return str(distribution(package).locate_file(path).read_text("utf-8"))  # type: ignore[attr-defined]
        except PackageNotFoundError:
            missing(f"the Python package {package} is not installed", module=package)

    return read
