"""Where an operator asks: a command, a page, a metric."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from ..claims.store import Store
from ..counts.reading import read_counts
from ..counts.tally import Tally
from ..policy.model import Plan
from .savings import Saving, saving

#: Gives what a run of each of these tasks takes, in seconds, where that is known.
Durations = Callable[[Iterable[str]], Mapping[str, float]]

WEEK = 7 * 86_400.0


class Desk:
    """Answers about the tasks that have a policy, for one app."""

    def __init__(
        self,
        store: Store,
        key_prefix: str,
        plans: Callable[[], Mapping[str, Plan]],
        durations: Durations,
        tally: Tally,
    ) -> None:
        self._store, self._prefix, self._plans = store, key_prefix, plans
        self._durations, self._tally = durations, tally

    def counts(self, seconds: float = WEEK) -> dict[str, dict[str, int]]:
        """Return how often each word of `counts.words` was counted in the last `seconds`, by task.

        By whole hours, of 35 days at most.  What other processes have counted within the last
        second may be missing.  Raises `StoreError`.
        """
        self._tally.flush()
        return read_counts(self._store, self._prefix, self._plans(), seconds)

    def savings(self, seconds: float = WEEK) -> list[Saving]:
        """Return what was saved, for every task that has a policy, by name; as `counts`."""
        plans, counts = self._plans(), self.counts(seconds)
        takes = self._durations(plans)
        return [saving(task, counts[task], takes.get(task), plans[task]) for task in sorted(plans)]
