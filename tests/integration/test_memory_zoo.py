"""Every leak of the zoo is found, and nothing else is called one."""

from __future__ import annotations

from typing import Any

from benchmarks import bench_leaks
from tests import zoo

#: Shared by two children; the slowest leak needs some 135 in one of them.
RUNS = 420


def test_the_zoo(redis_server: Any) -> None:
    """Leaks and clean tasks share two prefork children, in random order."""
    notes = bench_leaks.visit(redis_server, RUNS, mixed=True)
    reported = {note["task"]: note for note in notes if note["event"] == "reported"}
    # Not exact for a task that fails in every run: see "What it does not know" in docs/memory.md.
    assert set(reported) - {"raises"} == set(zoo.LEAKS), bench_leaks.table(notes, RUNS)[0]
    assert reported["once"]["kind"] == "run"
    rates = {"mega": 1.0, "slow": 0.05, "tenth": 0.1, "failing": 0.1}
    for name, rate in rates.items():
        told = reported[name]
        assert told["kind"] == "trend"
        assert 0.4 * rate < told["per_run"] < 2.5 * rate, told
