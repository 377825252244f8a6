"""After a test no child process lives that did not before; after a module no socket and no thread.

What a module's or the session's fixtures have started is known: it is looked at when they have
ended, and what is there then is named together with the test that opened it.  What Celery itself
leaves open is closed before (`tests/celery_ends.py`).
"""

from __future__ import annotations

import functools
import gc
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests import celery_ends, forking

#: Seconds in which what was told to end may do so.
GRACE = 10.0

#: A child's pid, a socket's inode, or a thread.
Thing = tuple[str, object]

#: What belongs to the session.
kept: set[Thing] = set()

#: The test that opened what is there.
starters: dict[Thing, str] = {}

#: Where in the project a socket was made, by its inode.
makers: dict[int, str] = {}

#: Names of threads that end by themselves when there has been no work for some seconds.
RESTING = ("jobtastic-pool",)

#: Files whose lines open no socket on their own account.
PASSED_BY = (__file__, celery_ends.__file__)

ROOT = f"{Path(__file__).parent.parent}{os.sep}"


def opened() -> set[Thing]:
    """What is open now; of sockets and children none where there is no ``/proc``."""
    threads = (thread for thread in threading.enumerate() if thread.name not in RESTING)
    things: set[Thing] = {("thread", thread) for thread in threads}
    starter = forking.starter.process.pid if forking.starter is not None else None
    for parent in filter(None, ("self", starter)):
        for file in Path(f"/proc/{parent}/task").glob("*/children"):
            try:
                pids = map(int, file.read_text().split())
            except OSError:
                continue  # that thread has ended
            things.update(("process", pid) for pid in pids if pid != starter)
    for file in Path("/proc/self/fd").glob("*"):
        try:
            target = os.readlink(file)
        except OSError:
            continue
        if target.startswith("socket:["):
            things.add(("socket", int(target[8:-1])))
    return things


def remember_sockets() -> None:
    """Note for each socket that is made from now on which line of the project wanted it."""
    real = socket.socket.__init__

    @functools.wraps(real)
    def init(self: socket.socket, *args: object, **kwargs: object) -> None:
        real(self, *args, **kwargs)  # type: ignore[arg-type]
        frame = sys._getframe(1)
        while frame is not None and frame.f_back is not None:
            name = frame.f_code.co_filename
            if (
                name.startswith(ROOT)
                and "site-packages" not in name
                and name != celery_ends.__file__
            ):
                break
            frame = frame.f_back
        where = frame.f_code.co_filename.removeprefix(ROOT)
        makers[os.fstat(self.fileno()).st_ino] = f"{where}:{frame.f_lineno}"

    socket.socket.__init__ = init  # type: ignore[method-assign]


def words_for(thing: Thing) -> str:
    kind, what = thing
    words = str(what)
    if isinstance(what, int) and kind == "process":
        try:
            words = f"{what} ({' '.join(psutil.Process(what).cmdline())[:200] or 'a zombie'})"
        except psutil.Error:
            words = f"{what} (gone by now)"
    elif isinstance(what, int):
        words = f"of {makers.get(what, 'unknown origin')}"
    return f"{kind} {words}, since {starters.get(thing, 'the set-up or the last test')}"


def complain(before: set[Thing], kinds: tuple[str, ...] = ("process", "socket", "thread")) -> None:
    """Fail with the name of every new thing that does not end."""
    deadline = time.monotonic() + GRACE
    while left := {thing for thing in opened() - before - kept if thing[0] in kinds}:
        if time.monotonic() > deadline:
            pytest.fail("left behind: " + "; ".join(sorted(map(words_for, left))), pytrace=False)
        gc.collect()  # what is held by garbage alone is not left
        time.sleep(0.02)


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(fixturedef: pytest.FixtureDef[object]) -> Iterator[None]:
    """What a fixture of the session opens may stay."""
    if fixturedef.scope not in ("session", "package"):
        return (yield)
    before = opened()
    try:
        return (yield)
    finally:
        kept.update(opened() - before)


@pytest.fixture(scope="module", autouse=True)
def nothing_is_left_by_a_module() -> Iterator[None]:
    before = opened()
    yield
    celery_ends.close_all()
    complain(before)


@pytest.fixture(autouse=True)
def nothing_is_left_by_a_test(request: pytest.FixtureRequest) -> Iterator[None]:
    before = opened()
    yield
    fixtures = request.node._fixtureinfo.name2fixturedefs.items()
    if not any(found[-1].scope == "module" for name, found in fixtures if "nothing_is" not in name):
        complain(before, ("process",))
    starters.update(dict.fromkeys(opened() - before, request.node.nodeid))
