"""Where an operator asks: a command, a page, a metric."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from ..broker.lines import Lines
from ..claims.decision_log import log_decision
from ..claims.line import wake
from ..claims.records import Claim, Forget, Terms
from ..claims.store import Store
from ..counts.reading import read_counts
from ..counts.tally import Tally
from ..policy.model import Plan
from .held import Held, Names, Wanted, held
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
        lines: Lines,
    ) -> None:
        self._store, self._prefix, self._plans = store, key_prefix, plans
        self._durations, self._tally, self._lines = durations, tally, lines

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

    def claims(self, wanted: Wanted | None = None) -> Iterator[Held]:
        """Yield what is held, in no order.

        Raises `StoreError`, also where the store cannot tell its keys (memcached).
        """
        for page in self.pages(wanted):
            yield from page

    def pages(self, wanted: Wanted | None = None) -> Iterator[list[Held]]:
        """Yield the same page by page; there is nothing on some, where the store has other keys."""
        wanted = wanted or Wanted()
        names = Names(self._prefix, self._plans())
        counted = Counted(self._lines)
        now = self._store.look(names.head)[1]
        for page in self._store.pages(names.head):
            yield [one for one in held(names, page, now, counted) if one.fits(wanted)]

    def named(self, task_id: str) -> list[Held]:
        """Return what is held for the task of this id, or has its result."""
        return [one for one in self.claims(Wanted(results=True)) if one.id == task_id]

    def claim(self, key: str) -> tuple[Claim | None, Held | None]:
        """Return what is held under a key: as it is, and as an operator sees it."""
        claim, now = self._store.look(key)
        names = Names(self._prefix, self._plans())
        pairs = [(key, claim)] if claim is not None else []
        return claim, next(held(names, pairs, now, Counted(self._lines)), None)

    def forget(self, keys: Iterable[str]) -> int:
        """Let go of calls, whoever holds them; the next identical call runs.

        Returns how many there were.  Runs that are under way go on.  Raises `StoreError`.
        """
        terms = {plan.key_head: plan for plan in self._plans().values()}
        count = 0
        for key in keys:
            answer = self._store.apply(key, Forget())
            plan: Terms = terms.get(f"{key.rpartition(':')[0]}:") or Terms()
            wake(self._store, self._lines, plan, key, answer.waiting)
            if answer.word == "ok":
                count += 1
                log_decision("-", "-", key, "forgotten", "an operator asked for it")
        return count


class Counted:
    """Counts the messages that wait for a key; at least one, if the broker does not say."""

    def __init__(self, lines: Lines) -> None:
        self._lines, self._silent = lines, False

    def __call__(self, key: str, places: str) -> int:
        count = None if self._silent else self._lines.count(key, places)
        self._silent = count is None
        return 1 if count is None else count
