"""The thread that writes what runs held back ends when it is told to."""

from __future__ import annotations

import threading

from jobtastic_ext.progress.ticker import Ticker
from tests.test_progress import Run


class Slow(threading.Event):
    """Somebody else acts in the middle of `clear`, or waits until it is over."""

    def __init__(self, ticker: Ticker) -> None:
        super().__init__()
        self.other = threading.Thread(target=ticker.close)

    def clear(self) -> None:
        self.other.start()
        self.other.join(0.5)
        super().clear()


def test_it_ends_even_if_that_is_said_as_it_falls_asleep() -> None:
    ticker, run = Ticker(), Run()
    ticker._wanted = slow = Slow(ticker)
    ticker.add(run)
    ticker.discard(run)
    assert ticker._thread is not None
    ticker._thread.join(10)
    assert not ticker._thread.is_alive()
    slow.other.join(10)
