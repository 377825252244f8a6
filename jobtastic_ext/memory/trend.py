"""Does memory grow from run to run?  Pure arithmetic over what is retained after each run, in MB.

A clean task retains nothing, once it is warm.  A cache grows and levels off.  What the allocator
returns late makes single values too high, never too low.  So a window of runs is kept as the
minima of equal blocks, and a leak is a window that rises throughout, for long enough that a cache
would have levelled off.
"""

from __future__ import annotations

from itertools import accumulate, pairwise
from statistics import median

from msgspec import Struct

#: Runs that are not looked at: imports, first connections, first use of everything.
WARM_UP = 8

#: Blocks of a window, and the fewest that are judged.
BLOCKS, FEWEST = 48, 12

#: Runs of a block to begin with: a window for what grows in every run, one for rare steps.
WIDTHS = (1, 16)

#: MB.  A window that grew by so much need not be as long as one that grew by less.
MUCH = 64.0

#: MB a run.  Growing no faster than this, a cache of 30 MB would take 300 runs to fill.
SLOW = 0.1

#: MB a run.  What grows slower than this is not worth a report (and tracing alone grows by half).
SLOWEST = 0.001

#: Runs before growth is believed: much growth, slow growth, any other.
SOON, LATER, LATEST = 30, 90, 116


class Growth(Struct, frozen=True):
    """A window of runs in which memory grew throughout."""

    #: MB a run: the median of the slopes between all pairs of blocks (for rare steps, which that
    #: may miss, between the ends of the window).
    per_run: float
    runs: int
    #: MB over the whole window.
    total: float


class Trend:
    """The retained memory of one task in one process, or of all that one process runs."""

    def __init__(self, least: float = 2.0, patience: int = 1) -> None:
        #: Growth of less MB than this is never reported.
        self._least = least
        #: Factor on the number of runs before growth is believed.
        self._patience = patience
        self._skip = WARM_UP
        self._windows = [Window(width) for width in WIDTHS]
        #: MB retained when the last report was made, and all growth of the episode until then.
        self._reported: tuple[float, float] | None = None

    def add(self, level: float) -> None:
        """Add what is retained after one more run, in MB above any fixed point."""
        if self._skip:
            self._skip -= 1
            return
        for window in self._windows:
            window.add(level)

    def due(self) -> Growth | None:
        """Return growth that is to be reported now: once per episode, and when it has doubled.

        Call `report` when it has been told, or `distrust` when it proved to be no leak.  Costs
        next to nothing except when a block is full.
        """
        fresh = [window for window in self._windows if window.closed]
        if not fresh:
            return None
        if self._reported is not None and not any(w.still_rises() for w in self._windows):
            self._reported = None  # it levelled off: what comes later is another episode
        for window in fresh:
            window.closed = False
            growth = self._growth(window)
            if growth is not None and self._is_news(window):
                return growth
        return None

    def per_run(self) -> float:
        """Return the MB that a run retains, judged by a long window if there is one; 0 at first."""
        window = self._windows[1] if len(self._windows[1].blocks) > 2 else self._windows[0]
        runs = (len(window.blocks) - 1) * window.width
        return window.rise() / runs if runs > 0 else 0.0

    def report(self, growth: Growth) -> None:
        """`growth` has been told."""
        level = self._level()
        told = growth.total
        if self._reported is not None:
            told = self._reported[1] + level - self._reported[0]
        self._reported = (level, told)

    def distrust(self) -> None:
        """It was no leak: begin anew, and take twice as long to believe the next one."""
        self._patience = min(2 * self._patience, 64)
        self._windows = [Window(width) for width in WIDTHS]

    def _growth(self, window: Window) -> Growth | None:
        if len(window.blocks) < FEWEST or window.rise() < self._least:
            return None
        blocks = retained(window.blocks)
        total = blocks[-1] - blocks[0]
        if total < max(self._least, window.doubt) or not rises(blocks):
            return None
        per_run = slope(blocks) / window.width
        if per_run <= 0:
            per_run = total / (len(blocks) - 1) / window.width
        if per_run < SLOWEST:
            return None
        runs = len(blocks) * window.width
        if total >= MUCH * self._patience:
            enough = SOON
        else:
            enough = (LATER if per_run <= SLOW else LATEST) * self._patience
        return Growth(per_run, runs, total) if runs >= enough else None

    def _is_news(self, window: Window) -> bool:
        if self._reported is None:
            return True
        level, told = self._reported
        return window.blocks[-1] - level >= told

    def _level(self) -> float:
        return self._windows[0].blocks[-1]


class Window:
    """The last runs, as the minima of blocks of `width` runs."""

    def __init__(self, width: int) -> None:
        self.width = width
        self.blocks: list[float] = []
        #: A block was filled since somebody looked.
        self.closed = False
        #: MB.  It grew before and levelled off; as a cache that is nearly full still gets its last
        #: entries, only growth of more than this is believed.
        self.doubt = 0.0
        self._lowest = 0.0
        self._filled = 0

    def add(self, level: float) -> None:
        if not self._filled or level < self._lowest:
            self._lowest = level
        self._filled += 1
        if self._filled == self.width:
            self.blocks.append(self._lowest)
            self._filled, self.closed = 0, True
            if len(self.blocks) == BLOCKS:
                self._make_room()

    def rise(self) -> float:
        """Return the MB from the first block to the last."""
        return self.blocks[-1] - self.blocks[0] if self.blocks else 0.0

    def still_rises(self) -> bool:
        """Whether the newer half of the window rises."""
        newer = self.blocks[len(self.blocks) // 2 :]
        return len(newer) > 1 and newer[-1] > newer[0]

    def _make_room(self) -> None:
        """Take in twice as many runs while it rises; else let go of the older half."""
        blocks = retained(self.blocks)
        older, newer = blocks[BLOCKS // 2] - blocks[0], blocks[-1] - blocks[BLOCKS // 2]
        if min(older, newer) > 0.25 * max(older, newer):
            pairs = zip(self.blocks[::2], self.blocks[1::2], strict=True)
            self.blocks = [min(pair) for pair in pairs]
            self.width *= 2
        else:
            self.doubt = min(max(self.doubt, older), 0.5 * MUCH)
            del self.blocks[: BLOCKS // 2]


def retained(blocks: list[float]) -> list[float]:
    """Return what was never given back: for each value the lowest from there on."""
    lowest = list(accumulate(reversed(blocks), min))
    lowest.reverse()
    return lowest


def rises(blocks: list[float]) -> bool:
    """Whether the values rise in every quarter, and in the second half about as in the first.

    A cache that fills by random keys rises less and less; one that is full does not rise at all.
    """
    last = len(blocks) - 1
    edges = [blocks[last * quarter // 4] for quarter in range(5)]
    rise = edges[4] - edges[0]
    steps = [after - before for before, after in pairwise(edges)]
    steady = edges[4] - edges[2] >= 0.75 * (edges[2] - edges[0]) and steps[3] >= 0.5 * steps[0]
    return rise > 0 and min(steps) >= 0.25 * rise / 4 and steady


def slope(values: list[float]) -> float:
    """Return the median slope between all pairs of values (Theil and Sen), per step."""
    return median(
        (after - before) / (right - left)
        for left, before in enumerate(values)
        for right, after in enumerate(values[left + 1 :], left + 1)
    )
