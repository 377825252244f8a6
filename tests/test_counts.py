"""Counting in one process: what is brought to the store, when, and what is lost."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from jobtastic_ext.claims.counts import MOST_WRITERS, added, decode
from jobtastic_ext.claims.store import Store
from jobtastic_ext.contrib import saved
from jobtastic_ext.contrib.saved import Saved
from jobtastic_ext.counts import tally as module
from jobtastic_ext.counts.reading import read_counts
from jobtastic_ext.counts.table import SharedCounts
from jobtastic_ext.counts.tally import Tally
from jobtastic_ext.errors import StoreError, StoreUnavailable
from jobtastic_ext.memory.recycle import place_in_pool
from jobtastic_ext.stores.memory import MemoryStore
from jobtastic_ext.stores.sqlite import SQLiteStore
from tests.servers import wait_until
from tests.workers import ROOT


class Troubled(MemoryStore):
    """Refuses what it is told to; `late` additions are made although nobody hears of it."""

    trouble: Exception | None = None
    late = False

    def __init__(self) -> None:
        super().__init__()
        #: Who has come to add.
        self.visitors: set[threading.Thread] = set()

    def add(self, key: str, counts: Mapping[str, int], ttl: int, mark: str) -> None:
        self.visitors.add(threading.current_thread())
        if self.late or self.trouble is None:
            super().add(key, counts, ttl, mark)
        if self.trouble is not None:
            raise self.trouble


@pytest.fixture
def store() -> Troubled:
    return Troubled()


@pytest.fixture
def tally(store: Troubled) -> Iterator[Tally]:
    tally = Tally(store, "test")
    yield tally
    store.trouble = None
    tally.close()


def counts(store: Store, task: str = "shop.report") -> dict[str, int]:
    (found,) = read_counts(store, "test", [task], 3600).values()
    return {word: number for word, number in found.items() if number}


def test_counts_arrive_by_themselves(store: Troubled, tally: Tally) -> None:
    for _ in range(3):
        tally.count("shop.report", "joined")
    tally.count("shop.other", "ran", 2)
    wait_until(lambda: counts(store) == {"joined": 3})
    wait_until(lambda: counts(store, "shop.other") == {"ran": 2})
    assert threading.current_thread() not in store.visitors, "no call goes to the store"


def test_the_thread_ends_when_nothing_is_counted(
    store: Troubled, tally: Tally, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "IDLE", 1)
    monkeypatch.setattr(module, "PAUSE", 0.01)

    def names() -> list[str]:
        return [each.name for each in threading.enumerate()]

    for n in (1, 2):
        tally.count("shop.report", "ran")
        ran = {"ran": n}  # which the thread alone brings there
        wait_until(lambda ran=ran: counts(store) == ran)
        wait_until(lambda: "jobtastic-counts" not in names())


def test_counts_wait_for_a_store_that_is_down(store: Troubled, tally: Tally) -> None:
    store.trouble = StoreUnavailable("it is down")
    tally.count("shop.report", "ran")
    assert not tally.flush()
    tally.count("shop.report", "ran")
    assert not tally.flush()
    store.trouble = None
    assert tally.flush()
    assert counts(store) == {"ran": 2}


def test_what_arrived_although_nobody_said_so_counts_once(store: Troubled, tally: Tally) -> None:
    store.trouble, store.late = StoreUnavailable("no answer in time"), True
    tally.count("shop.report", "ran", 5)
    for _ in range(3):
        assert not tally.flush()
    store.trouble = None
    assert tally.flush()
    assert counts(store) == {"ran": 5}


# Whatever happens, a call goes on


def test_a_call_goes_on_when_no_thread_can_start(
    store: Troubled, tally: Tally, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(thread: threading.Thread) -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        tally.count("shop.report", "ran")
    tally._pending().retry = 0.0
    tally.count("shop.report", "ran")
    wait_until(lambda: counts(store) == {"ran": 2})


def test_seconds_are_told_later_when_no_thread_can_start(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    given = Saved(lambda task, seconds: None)
    task = SimpleNamespace(app=None, name="shop.report")
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        given.add(task, 1)
    assert not given._pending().works
    given._pending().retry = 0.0
    given.add(task, 1)
    assert given._pending().works
    given.close()


def test_the_thread_of_seconds_outlives_an_error(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(saved, "PAUSE", 0.01)
    monkeypatch.setattr(saved, "IDLE", 3)
    given = Saved(lambda task, seconds: None)
    monkeypatch.setattr(given, "turn", lambda pending: 1 / 0)
    given.add(SimpleNamespace(app=None, name="shop.report"), 1)
    wait_until(lambda: not given._pending().works)
    assert caplog.text.count("ZeroDivisionError") == 3


class Interrupted(str):
    """A name that counts another one in the middle of being counted."""

    __slots__ = ("count",)

    def __hash__(self) -> int:
        self.count("shop.other", "ran")
        return super().__hash__()


def test_who_interrupts_a_count_may_count(store: Troubled, tally: Tally) -> None:
    name = Interrupted("shop.report")
    name.count = tally.count  # type: ignore[misc]
    counting = threading.Thread(target=tally.count, args=(name, "ran"), daemon=True)
    counting.start()
    counting.join(20)
    assert not counting.is_alive(), "it waits for itself"
    wait_until(lambda: counts(store) == {"ran": 1})


def test_who_interrupts_the_start_of_the_thread_may_count(
    store: Troubled, tally: Tally, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = threading.Thread.start

    def interrupted(thread: threading.Thread) -> None:
        if thread.name == "jobtastic-counts":
            other = threading.Thread(target=tally.count, args=("shop.report", "ran"), daemon=True)
            start(other)
            other.join(20)
            assert not other.is_alive(), "it waits for the start"
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", interrupted)
    tally.count("shop.report", "ran")
    wait_until(lambda: counts(store) == {"ran": 2})


class Busy:
    """In place of the event for which the thread waits: something is counted in each pause."""

    def __init__(self, tally: Tally) -> None:
        self.tally, self.pauses = tally, 0

    def wait(self, seconds: float) -> bool:
        self.pauses += 1
        self.tally.count("shop.report", "ran")
        return self.pauses > 10

    def set(self) -> None:
        pass


def test_the_thread_goes_on_while_something_is_counted(
    store: Troubled, tally: Tally, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "IDLE", 3)
    pending = tally._pending()
    pending.thread = threading.current_thread()
    pending.closed = busy = Busy(tally)  # type: ignore[assignment]
    tally._run(pending)
    assert busy.pauses == 11


# The end of a process


def test_a_process_that_ends_after_an_outage_tries_once_more(store: Troubled, tally: Tally) -> None:
    store.trouble = StoreUnavailable("it is down")
    tally.count("shop.report", "ran")
    assert not tally.flush()
    store.trouble = None
    tally._at_exit[os.getpid()]()  # type: ignore[operator]
    assert counts(store) == {"ran": 1}


class Slow(Troubled):
    """Takes its time, or as long as it is told to."""

    visits = 0

    def __init__(self) -> None:
        super().__init__()
        self.entered, self.go_on = threading.Event(), threading.Event()

    def add(self, key: str, counts: Mapping[str, int], ttl: int, mark: str) -> None:
        self.visits += 1
        self.entered.set()
        self.go_on.wait(0.3)
        super().add(key, counts, ttl, mark)


def test_the_end_waits_for_one_timeout_however_many_tasks_there_are() -> None:
    store = Slow()
    tally = Tally(store, "test", 0.5)
    for n in range(30):
        tally.count(f"shop.{n}", "ran")
    assert not tally.flush_last()
    assert store.visits <= 3  # a visit of the thread may have been under way
    store.go_on.set()
    tally.close()
    assert sum(counts(store, f"shop.{n}")["ran"] for n in range(30)) == 30


def test_the_end_does_not_ask_again_what_has_just_not_answered() -> None:
    store = Slow()
    tally = Tally(store, "test", 20.0)
    store.trouble = StoreUnavailable("it is silent")
    tally.count("shop.report", "ran")
    assert store.entered.wait(20)
    assert not tally.flush_last()
    assert store.visits == 1
    store.trouble = None
    tally.close()


# What is lost


def test_what_the_store_refuses_is_lost_and_said(
    store: Troubled, tally: Tally, caplog: pytest.LogCaptureFixture
) -> None:
    store.trouble = StoreError("a value of another kind")
    tally.count("shop.report", "ran")
    assert tally.flush()
    assert "the store refuses counts, which are lost: a value of another kind" in caplog.text


def test_what_waits_is_bounded(
    store: Troubled, tally: Tally, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST", 3)
    store.trouble = StoreUnavailable("it is down")
    for n in range(10):
        tally.count(f"shop.{n}", "ran")
        tally.flush()
    store.trouble = None
    tally.flush()
    kept = [n for n in range(10) if counts(store, f"shop.{n}")]
    assert kept == [0, 7, 8, 9], "the one that is on its way, and the latest"


def test_counts_of_whole_hours_are_read(store: Troubled, monkeypatch: pytest.MonkeyPatch) -> None:
    tally = Tally(store, "test")
    now = time.time() // 3600 * 3600 + 1800
    for ago in (0, 1, 5, 24 * 34, 24 * 36):
        monkeypatch.setattr(time, "time", lambda ago=ago: now - ago * 3600)
        tally.count("shop.report", "ran")
        assert tally.flush()
    monkeypatch.setattr(time, "time", lambda: now)
    read = {
        hours: read_counts(store, "test", ["shop.report"], hours * 3600)["shop.report"]["ran"]
        for hours in (0, 1, 4, 5, 24 * 100)
    }
    assert read == {0: 1, 1: 2, 4: 2, 5: 3, 24 * 100: 4}
    tally.close()


def test_marks_are_bounded() -> None:
    raw: bytes | None = None
    for n in range(MOST_WRITERS + 9):
        raw = added(raw, {"ran": 1}, f"{n:012}00000001")
    found = decode(raw)
    assert (found.counts, len(found.marks)) == ({"ran": MOST_WRITERS + 9}, MOST_WRITERS)
    assert added(raw, {"ran": 1}, f"{MOST_WRITERS:012}00000001") is None
    assert decode(b"\x00garbage").counts == {}


# Processes


def test_a_process_that_is_no_child_of_the_pool_has_no_place() -> None:
    assert place_in_pool() is None
    table = SharedCounts(["shop.report"], 1, place_in_pool)

    def work() -> None:  # as beat in `worker -B`
        os._exit(int(table.add("shop.report", "ran", 1)))

    assert children(table, work, 1) == [0]
    assert list(table.news()) == []
    table.close()


COUNTING = """
import os, sys, multiprocessing
from jobtastic_ext.counts.tally import Tally
from jobtastic_ext.stores.sqlite import SQLiteStore

tally = Tally(SQLiteStore(sys.argv[1]), "test")
tally.count("shop.report", "ran")

def child():
    tally.count("shop.report", "joined")

if sys.argv[2] == "fork":
    started = multiprocessing.get_context("fork").Process(target=child)
    started.start()
    started.join()
if sys.argv[2] == "raise":
    raise SystemExit(3)
"""


@pytest.mark.parametrize(
    ("how", "expected"),
    [("end", {"ran": 1}), ("raise", {"ran": 1}), ("fork", {"ran": 1, "joined": 1})],
)
def test_a_process_that_ends_brings_what_is_left(
    how: str, expected: dict[str, int], tmp_path: Path
) -> None:
    path = str(tmp_path / "claims.sqlite3")
    done = subprocess.run(
        [sys.executable, "-c", COUNTING, path, how], cwd=ROOT, capture_output=True, text=True
    )
    assert done.stderr == ""
    store = SQLiteStore(path)
    assert counts(store) == expected
    store.close()


def place() -> int:
    return PLACE


PLACE = 0


def children(table: SharedCounts, work: Any, count: int) -> list[int]:
    """Fork so many, each with a place of its own; return how they ended."""
    global PLACE
    started = []
    for PLACE in range(count):  # noqa: B007 - a child keeps what it is
        process = multiprocessing.get_context("fork").Process(target=work)
        process.start()
        started.append(process)
    for process in started:
        process.join(60)
    return [process.exitcode for process in started]


def test_what_killed_children_have_counted_is_there() -> None:
    table = SharedCounts(["shop.report", "shop.other"], 3, place)

    def work() -> None:
        for _ in range(5):
            assert table.add("shop.report", "ran", 2)
        assert not table.add("shop.unknown", "ran", 1)
        os.kill(os.getpid(), signal.SIGKILL)

    assert children(table, work, 3) == [-signal.SIGKILL] * 3
    assert sorted(table.news()) == [("shop.report", "ran", 10)] * 3
    assert list(table.news()) == []
    assert children(table, work, 1) == [-signal.SIGKILL], "another one in the place of the first"
    assert list(table.news()) == [("shop.report", "ran", 10)]
    assert not table.add("shop.report", "ran", 1), "the main process counts for itself"
    table.close()


def test_who_has_no_place_in_the_table_counts_for_itself() -> None:
    table = SharedCounts(["shop.report"], 1, place)

    def work() -> None:
        grandchild = multiprocessing.get_context("fork").Process(
            target=lambda: os._exit(int(table.add("shop.report", "ran", 1)))
        )
        grandchild.start()
        grandchild.join()
        os._exit(10 * int(table.add("shop.report", "ran", 1)) + (grandchild.exitcode or 0))

    assert children(table, work, 2) == [10, 0]
    table.close()
