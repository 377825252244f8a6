"""A small zoo: what leaks is found, and what only looks like it is not.

``python -m benchmarks.bench_leaks`` visits the whole of it, for minutes.
"""

from __future__ import annotations

from typing import Any

from benchmarks import bench_leaks

#: A leak, steady work, and work that takes memory the first time only.
ANIMALS = ("mega", "clean", "imports")

#: Reported is what has grown by more than the threshold, 50 MB.
RUNS = 80


def test_a_small_zoo(redis_server: Any) -> None:
    """A leak and clean tasks take turns in one prefork child."""
    notes = bench_leaks.visit(redis_server, [*ANIMALS] * RUNS, concurrency=1)
    reported = [note for note in notes if note["event"] == "reported"]
    assert {note["task"] for note in reported} == {"mega"}, notes
    for told in reported:
        assert told["kind"] == "trend"
        assert 0.4 < told["per_run"] < 2.5, told
