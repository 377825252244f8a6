"""Stand-in: a straight line, and the mean of past durations."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from msgspec import Struct

__all__ = ("Estimate", "History", "estimate", "percent")


class Estimate(Struct, frozen=True):
    seconds: float
    low: float | None = None
    high: float | None = None


class History(Struct, frozen=True):
    runs: int = 0
    mean: float = 0.0

    def record(self, samples: Sequence[tuple[float, float]], total: float) -> History:
        runs = self.runs + 1
        return History(runs, self.mean + (total - self.mean) / min(runs, 5))

    def encode(self) -> bytes:
        return msgspec.json.encode(self)

    @classmethod
    def decode(cls, data: bytes) -> History:
        try:
            return msgspec.json.decode(data, type=cls)
        except msgspec.MsgspecError:
            return cls()


def estimate(history: History, samples: Sequence[tuple[float, float]]) -> Estimate:
    elapsed, fraction = samples[-1]
    if history.runs:
        left = max(history.mean - elapsed, history.mean / 20)
        return Estimate(left, left / 2, left * 2)
    if fraction > 0:
        return Estimate(elapsed * (1 - fraction) / fraction)
    return Estimate(-1.0)


def percent(history: History, elapsed: float) -> float | None:
    if not history.runs:
        return None
    return min(100 * elapsed / history.mean, 99.0)
