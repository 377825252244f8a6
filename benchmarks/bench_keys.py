"""What a call key costs, beside the two usual ways to make one.

    python benchmarks/bench_keys.py

All ways take turns within one run, so that a busy machine slows them alike; each figure is the
median of the rounds.  "json" is SHA-256 of ``json.dumps(..., sort_keys=True)``; "str" is MD5 of
``str()`` of every argument, as the `jobtastic` library does.  Neither of the two binds arguments,
and neither tells ``["a", "b"]`` from its text or ``1`` from ``"1"`` in every place.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from statistics import median
from timeit import Timer
from typing import Any

from jobtastic_ext.keys.call_key import call_key
from jobtastic_ext.keys.signature import CallSignature

ROUNDS = 41

#: Seconds that one way may take in one round.
SLICE = 0.005


def report(rows: Any, day: str = "today", limit: int = 10, *, dry: bool = False) -> None:
    """Stand in for a task."""


SIGNATURE = CallSignature(report)

CALLS: dict[str, dict[str, Any]] = {
    "small arguments": {"rows": 17, "day": "2024-02-03", "limit": 50},
    "10,000 ints": {"rows": list(range(10_000))},
    "10,000 strs": {"rows": [f"item-{n}" for n in range(10_000)]},
    "10,000 floats": {"rows": [n / 7 for n in range(10_000)]},
    "10,000 mixed": {"rows": [None, "a", 1, 2.5] * 2_500},
    "1,000 dicts": {"rows": [{"id": n, "name": f"n{n}", "ok": True} for n in range(1_000)]},
}


def our_key(kwargs: Mapping[str, Any]) -> str:
    return call_key("jobtastic", "bench.report", SIGNATURE, None, (), kwargs)


def json_key(kwargs: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(kwargs, sort_keys=True).encode()).hexdigest()


def str_key(kwargs: Mapping[str, Any]) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    for name in sorted(kwargs):
        digest.update(f"{name}:{kwargs[name]!s}".encode())
    return digest.hexdigest()


WAYS: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "ours": our_key,
    "json": json_key,
    "str": str_key,
}


def microseconds(kwargs: Mapping[str, Any]) -> dict[str, float]:
    """Return the median time of each way, in microseconds."""
    timers = {way: Timer(lambda make=make: make(kwargs)) for way, make in WAYS.items()}
    loops = {way: max(1, int(SLICE / timer.timeit(1))) for way, timer in timers.items()}
    times: dict[str, list[float]] = {way: [] for way in WAYS}
    for _ in range(ROUNDS):
        for way, timer in timers.items():
            times[way].append(timer.timeit(loops[way]) / loops[way])
    return {way: median(of_way) * 1e6 for way, of_way in times.items()}


def main() -> None:
    print(f"{'call':<16} {'ours':>9} {'json+sha':>9} {'str+md5':>9}   ours/json  ours/str")
    for name, kwargs in CALLS.items():
        took = microseconds(kwargs)
        ours, by_json, by_str = took["ours"], took["json"], took["str"]
        print(
            f"{name:<16} {ours:>6.1f} µs {by_json:>6.1f} µs {by_str:>6.1f} µs"
            f"   {ours / by_json:>9.2f} {ours / by_str:>9.2f}"
        )


if __name__ == "__main__":
    main()
