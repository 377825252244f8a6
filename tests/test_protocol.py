"""What a call is told for whom the world changes between the store's answer and its own look."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from jobtastic_ext.claims.protocol import Outcome, ask
from jobtastic_ext.claims.records import Finish, Operation
from jobtastic_ext.stores.memory import MemoryStore
from tests.test_claims import begin, call, finish


class Results:
    """Of a backend that is slow: what is given happens before it answers for the first time."""

    def __init__(self, store: MemoryStore, meanwhile: list[Operation], outcome: Outcome) -> None:
        self.store, self.meanwhile, self.found = store, meanwhile, outcome

    def outcome(self, task_id: str) -> Outcome | None:
        while self.meanwhile:
            assert self.store.apply("key", self.meanwhile.pop(0)).word in ("run", "ok")
        return self.found

    def decoded(self, task_id: str, stored: bytes) -> Outcome | None:
        raise AssertionError

    def pass_on(self, task_id: str, ids: Sequence[str]) -> None:
        raise AssertionError

    def keep(self, task_id: str, seconds: float) -> None:
        raise AssertionError


@pytest.mark.parametrize("failed", [False, True])
@pytest.mark.parametrize("later", [1, 601], ids=["overdue", "taken over"])
def test_a_run_that_ends_while_a_call_looks_serves_it(failed: bool, later: float) -> None:
    """400 callers of a slow database: one looked after the run, which the policy caches."""
    clock = [0]
    store = MemoryStore(clock=lambda: clock[0])
    store.apply("key", call("a"))
    clock[0] = round(later * 1000)
    ends = finish("a", fresh=100, failed=failed)
    outcome = Outcome(shareable=True, failed=failed, value=ValueError() if failed else 7)
    results = Results(store, [begin("a", "ga"), ends], outcome)
    settled = ask(store, results, "key", call("b"))
    assert (settled.answer.word, settled.answer.id) == ("cached", "a")
    assert settled.outcome is outcome


def test_a_run_that_ends_uncached_while_a_call_looks_does_not() -> None:
    clock = [0]
    store = MemoryStore(clock=lambda: clock[0])
    store.apply("key", call("a"))
    clock[0] = 1000
    ends: Finish = finish("a", keep=100)
    results = Results(store, [begin("a", "ga"), ends], Outcome(True, False, 7))
    settled = ask(store, results, "key", call("b"))
    assert (settled.answer.word, settled.answer.id) == ("claimed", "b")
