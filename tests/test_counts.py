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
from typing import Any

import pytest

from jobtastic_ext.claims.counts import MOST_WRITERS, added, decode
from jobtastic_ext.claims.store import Store
from jobtastic_ext.counts import tally as module
from jobtastic_ext.counts.reading import read_counts
from jobtastic_ext.counts.table import SharedCounts
from jobtastic_ext.counts.tally import Tally
from jobtastic_ext.errors import StoreError, StoreUnavailable
from jobtastic_ext.stores.memory import MemoryStore
from jobtastic_ext.stores.sqlite import SQLiteStore
from tests.integration.conftest import wait_until
from tests.workers import ROOT


class Troubled(MemoryStore):
    """Refuses what it is told to; `late` additions are made although nobody hears of it."""

    trouble: Exception | None = None
    late = False

    def add(self, key: str, counts: Mapping[str, int], ttl: int, mark: str) -> None:
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
    assert counts(store) == {}, "no call goes to the store"
    wait_until(lambda: counts(store) == {"joined": 3})
    assert counts(store, "shop.other") == {"ran": 2}


def test_the_thread_ends_when_nothing_is_counted(
    store: Troubled, tally: Tally, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "IDLE", 1)
    monkeypatch.setattr(module, "PAUSE", 0.01)

    def names() -> list[str]:
        return [each.name for each in threading.enumerate()]

    for n in (1, 2):
        tally.count("shop.report", "ran")
        assert "jobtastic-counts" in names()
        wait_until(lambda: "jobtastic-counts" not in names())
        assert counts(store) == {"ran": n}


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
    for n in range(100):
        raw = added(raw, {"ran": 1}, f"{n:012}")
    found = decode(raw)
    assert (found.counts, len(found.marks)) == ({"ran": 100}, MOST_WRITERS)
    assert added(raw, {"ran": 1}, f"{99:012}") is None
    assert decode(b"\x00garbage").counts == {}


# Processes


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
