"""After a test no child process lives that did not live before: servers, workers, browsers.

What a module's or the session's fixtures have started is known: it is looked at when they have
ended, and what lives then is named together with the test that started it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

#: Seconds in which a process that was told to end may do so.
GRACE = 10.0

#: Pids that belong to the session.
kept: set[int] = set()

#: The test that started what lives.
starters: dict[int, str] = {}


def children() -> set[int]:
    """Pids of our children; of none where there is no ``/proc``, to ask psutil takes too long."""
    pids: set[int] = set()
    for file in Path("/proc/self/task").glob("*/children"):
        try:
            pids.update(map(int, file.read_text().split()))
        except OSError:
            continue  # that thread has ended
    return pids


def name_of(pid: int) -> str:
    try:
        words = " ".join(psutil.Process(pid).cmdline())[:200] or "a zombie"
    except psutil.Error:
        words = "gone by now"
    return f"process {pid} ({words}), since {starters.get(pid, 'this test')}"


def complain(before: set[int]) -> None:
    """Fail with the name of every new child that does not end."""
    deadline = time.monotonic() + GRACE
    while left := children() - before - kept:
        if time.monotonic() > deadline:
            pytest.fail("left behind: " + "; ".join(map(name_of, sorted(left))), pytrace=False)
        time.sleep(0.02)


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(fixturedef: pytest.FixtureDef[object]) -> Iterator[None]:
    """What a fixture of the session starts may stay."""
    if fixturedef.scope not in ("session", "package"):
        return (yield)
    before = children()
    try:
        return (yield)
    finally:
        kept.update(children() - before)


@pytest.fixture(scope="module", autouse=True)
def nothing_is_left_by_a_module() -> Iterator[None]:
    before = children()
    yield
    complain(before)


@pytest.fixture(autouse=True)
def nothing_is_left_by_a_test(request: pytest.FixtureRequest) -> Iterator[None]:
    before = children()
    yield
    fixtures = request.node._fixtureinfo.name2fixturedefs.items()
    if any(found[-1].scope == "module" for name, found in fixtures if "nothing_is" not in name):
        starters.update(dict.fromkeys(children() - before, request.node.nodeid))
    else:
        complain(before)
