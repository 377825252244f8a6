"""Reading memory, the table that processes share, and call sites."""

from __future__ import annotations

import gc
import os
import sys
import tracemalloc
from collections.abc import Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import psutil
import pytest

from jobtastic_ext.memory import meter as memory
from jobtastic_ext.memory.allocation_sites import (
    add_sites,
    place_of,
    start_tracing,
    stop_tracing,
    top_sites,
)
from jobtastic_ext.memory.meter import Budget, Meter, imported_mb
from jobtastic_ext.memory.shared_table import Entry, SharedTable
from jobtastic_ext.memory.watch import MemoryWatch, Watched
from jobtastic_ext.signals import memory_leak_detected

LINUX = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs Linux")


@pytest.fixture
def meter() -> Iterator[Meter]:
    meter = Meter()
    yield meter
    meter.close()


def in_child(check: Any) -> int:
    """Run `check` in a fork of this process; return its exit status."""
    pid = os.fork()
    if not pid:
        status = 1
        try:
            status = 0 if check() else 2
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_a_reading_agrees_with_psutil(meter: Meter) -> None:
    info, reading = psutil.Process().memory_info(), meter.read()
    assert reading.resident == pytest.approx(info.rss / 1e6, abs=1)
    if hasattr(info, "shared"):
        assert reading.private == pytest.approx((info.rss - info.shared) / 1e6, abs=1)


def test_memory_in_use_falls_when_it_is_given_back(meter: Meter) -> None:
    if not meter.counts_in_use:
        pytest.skip("needs glibc 2.33 or newer")
    before = meter.read().in_use
    held = [bytearray(1000) for _ in range(20_000)]
    during = meter.read().in_use
    assert during - before == pytest.approx(20, rel=0.3)
    del held
    assert meter.read().in_use - before == pytest.approx(0, abs=1)


def test_a_forked_child_reads_itself(meter: Meter) -> None:
    """A descriptor of ``/proc/self`` that was inherited shows the parent."""
    meter.read()

    def check() -> bool:
        held = bytearray(b"x") * 50_000_000
        own = psutil.Process().memory_info().rss / 1e6
        return bool(held) and abs(meter.read().resident - own) < 2

    assert in_child(check) == 0


@LINUX
def test_a_descriptor_that_somebody_closed_is_no_loss(meter: Meter) -> None:
    meter.read()
    number = meter._statm
    os.close(number)
    with open(os.devnull) as other:
        assert other.fileno() == number  # the number is somebody else's now
        assert meter.read().resident == pytest.approx(meter.read().resident, abs=1)
        meter.close()
        other.read()  # and was left alone


def test_without_mallinfo_there_is_nothing_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_find_mallinfo", lambda: None)
    meter = Meter()
    assert not meter.counts_in_use
    assert meter.read().in_use is None
    meter.close()


def test_a_budget_allows_a_share_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1.0]
    monkeypatch.setattr("jobtastic_ext.memory.meter.time.thread_time", lambda: now[0])
    monkeypatch.setattr(Budget, "LEAST", 200e-6)
    budget, read = Budget(), 0
    for _ in range(1000):
        if budget.allows():
            read += 1
            began, now[0] = budget.start(), now[0] + 0.002
            budget.spent(began)
        budget.ran(0.01)
    assert read == pytest.approx(1000 * Budget.LEAST / 0.002, rel=0.5)


def test_imports_are_judged_by_their_files(tmp_path: Any) -> None:
    file = tmp_path / "large.pyc"
    file.write_bytes(b"x" * 1_000_000)
    module = ModuleType("large")
    module.__spec__ = SimpleNamespace(origin="/x/large.py", cached=str(file))  # type: ignore[assignment]
    assert imported_mb([module]) == 5
    assert imported_mb([None, ModuleType("made by hand"), sys]) == 0


# The table


def test_what_a_child_writes_outlives_it() -> None:
    table = SharedTable(["a", "b"], rows=3)
    entry = Entry(pid=7, runs=3, growth=1.5, largest=1.0, per_run=0.5, told_at=12.0)

    def check() -> bool:
        table.write(2, 1, entry)
        return True

    assert in_child(check) == 0
    assert table.entries(1) == [entry]
    assert table.entries(0) == []
    table.close()


def test_a_row_beyond_the_board_is_left_out() -> None:
    table = SharedTable(["a"], rows=2)
    table.write(2, 0, Entry(pid=1))
    assert table.read(2, 0) is None
    assert table.entries(0) == []
    table.close()


def test_a_record_that_was_never_finished_is_not_shown() -> None:
    """Its writer was killed in the middle."""
    table = SharedTable(["a"], rows=2)
    table.write(0, 0, Entry(pid=1, runs=5))
    table._map[0] |= 1
    assert table.read(0, 0) is None
    table.write(0, 0, Entry(pid=2, runs=6))
    assert table.read(0, 0) == Entry(pid=2, runs=6)
    table.close()


# Call sites


def keep(size: int) -> bytearray:
    return bytearray(size)  # the line that is to be named


def test_the_line_that_holds_new_memory_is_named() -> None:
    assert start_tracing()
    held = [keep(300_000) for _ in range(3)]
    [bytearray(100_000) for _ in range(10)]
    sites = stop_tracing()
    line = keep.__code__.co_firstlineno + 1
    assert sites[0].place == f"{__file__}:{line}"
    assert sites[0].mb == pytest.approx(0.9, rel=0.01)
    assert len(held) == 3
    assert not tracemalloc.is_tracing()


def test_somebody_elses_tracing_is_left_alone() -> None:
    tracemalloc.start()
    try:
        assert not start_tracing()
        assert tracemalloc.is_tracing()
    finally:
        tracemalloc.stop()


def test_a_place_is_the_projects_own_line_and_where_it_led() -> None:
    own, library = ("/srv/app/reports.py", 12), (os.__file__, 300)
    celery = (sys.modules["celery"].__file__ or "", 5)
    assert place_of([celery, own, library]) == "/srv/app/reports.py:12 (in os.py:300)"
    assert place_of([celery, own]) == "/srv/app/reports.py:12"
    assert place_of([celery, library]) is None
    assert place_of([own, celery]) is None


def test_sites_of_several_runs_add_up_and_stay_few() -> None:
    table: dict[str, Any] = {}
    assert start_tracing()
    held = [keep(50_000)]
    sites = stop_tracing()
    assert add_sites(table, sites)
    add_sites(table, sites)
    assert top_sites(table.values(), 1)[0].mb == pytest.approx(0.1, rel=0.05)
    assert held


# The watch, without a worker


@pytest.fixture
def watch() -> Iterator[MemoryWatch]:
    watch = MemoryWatch({"t": Watched(column=0, threshold=50)}, SharedTable(["t"], 4))
    yield watch
    watch.close()


class FakeTask:
    def __init__(self, name: str, request: Any) -> None:
        self.name, self.request = name, request


def run(watch: MemoryWatch, body: Any, name: str = "t", **ending: Any) -> None:
    request = SimpleNamespace(id="1", argsrepr="()", kwargsrepr="{}")
    watch.begin(name, request)
    body()
    watch.end(FakeTask(name, request), request, (), {}, **ending)


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict[str, Any]]]:
    """What is reported, with time for every reading: after other tests' garbage they take longer
    than a run without a body may spend on them."""
    monkeypatch.setattr(Budget, "LEAST", 60.0)
    found: list[dict[str, Any]] = []

    def note(**facts: Any) -> None:
        found.append(facts)

    memory_leak_detected.connect(note, weak=False)
    yield found
    memory_leak_detected.disconnect(note)


def make_garbage() -> None:
    cycle: list[Any] = [bytearray(b"x") * 400_000]
    cycle.append(cycle)


def test_garbage_in_cycles_is_no_leak(watch: MemoryWatch, told: list[Any]) -> None:
    gc.collect()
    for _ in range(400):
        run(watch, make_garbage)
    assert told == []


def test_a_leak_beside_garbage_is_found_with_its_own_size(
    watch: MemoryWatch, told: list[Any]
) -> None:
    held = []

    def body() -> None:
        make_garbage()
        held.append(bytearray(b"x") * 300_000)

    for _ in range(300):
        run(watch, body)
    assert told[0]["kind"] == "trend"
    assert told[0]["per_run"] == pytest.approx(0.3, rel=0.4)


def test_a_run_whose_body_was_left_out_does_not_count(watch: MemoryWatch) -> None:
    run(watch, lambda: None)
    run(watch, lambda: None, ran=False)
    [entry] = watch.table.entries(0)
    assert entry.runs == 1


def test_what_other_tasks_leak_is_not_put_down_to_a_clean_one(told: list[Any]) -> None:
    watched = {"clean": Watched(column=0, threshold=50), "leaks": Watched(column=1, threshold=50)}
    watch = MemoryWatch(watched, SharedTable(["clean", "leaks"], 4))
    held: list[bytearray] = []
    for _ in range(200):
        run(watch, lambda: None, "clean")
        run(watch, lambda: held.append(bytearray(b"x") * 200_000), "leaks")
        held.append(bytearray(b"x") * 100_000)
        run(watch, lambda: held.append(bytearray(b"x") * 100_000), "not watched")
    watch.close()
    assert {facts["sender"].name for facts in told} == {"leaks"}
