"""Histories in a store: whose they are, and that no run is lost when many end at once."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from celery import Celery

from jobtastic_ext import JobtasticStep
from jobtastic_ext.errors import StoreUnavailable
from jobtastic_ext.estimates.estimator import History, estimate
from jobtastic_ext.policy.model import Plan
from jobtastic_ext.progress import histories
from jobtastic_ext.progress.histories import NOTHING, Histories, Learned
from jobtastic_ext.runtime import close_runtime, runtime_of
from jobtastic_ext.stores.memory import MemoryStore


def plan(**fields: Any) -> Plan:
    app = Celery("h", broker="memory://", backend="cache+memory://", set_as_current=False)
    app.conf.jobtastic_store = f"memory://{uuid.uuid4().hex}"
    app.conf.jobtastic_policy = {"tasks": {"h.task": fields}}
    app.steps["worker"].add(JobtasticStep)

    @app.task(name="h.task", shared=False)
    def task(size: int, color: str = "red") -> None: ...

    runtime = runtime_of(app)
    assert runtime is not None
    found = runtime.plan(app.tasks["h.task"])
    assert found is not None
    close_runtime(app)
    return found


def test_a_task_has_one_history_and_a_group_its_own() -> None:
    known = Histories(MemoryStore(), "p")
    assert known.names(plan(), "h.task", (1,), {}) == ("p:%history:h.task",)
    by_size = plan(estimate_by=["size"])
    group, general = known.names(by_size, "h.task", (1,), {"color": "blue"})
    assert general == "p:%history:h.task"
    assert group.startswith(f"{general}:")
    assert known.names(by_size, "h.task", (), {"size": 1})[0] == group
    assert known.names(by_size, "h.task", (2,), {})[0] != group
    rough = plan(estimate_by=[["size", "tests.test_histories:magnitude"]])
    assert known.names(rough, "h.task", (11,), {}) == known.names(rough, "h.task", (99,), {})


def magnitude(size: int) -> int:
    return len(str(size))


def test_the_number_of_groups_is_bounded() -> None:
    known, by_size = Histories(MemoryStore(), "p"), plan(estimate_by=["size"])
    names = {known.names(by_size, "h.task", (n,), {})[0] for n in range(5_000)}
    assert all(len(name) == len("p:%history:h.task:") + 4 for name in names)


def test_an_argument_that_cannot_be_told_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    names = Histories(MemoryStore(), "p").names(
        plan(estimate_by=["size"]), "h.task", (object(),), {}
    )
    assert names == ("p:%history:h.task",)
    assert "estimated without estimate_by" in caplog.text


def test_a_group_that_is_new_is_estimated_by_its_task() -> None:
    known = Histories(MemoryStore(), "p")
    known.learn(("g1", "t"), [], 10.0)
    assert known.load(("g2", "t")) == known.load(("t",)) != NOTHING


def test_another_process_sees_what_was_learnt() -> None:
    store = MemoryStore()
    Histories(store, "p").learn(("t",), [(1.0, 0.1), (5.0, 0.5)], 10.0)
    learned = Histories(store, "p").load(("t",))
    assert learned.reports
    assert estimate(learned.history, [(0.0, 0.0)]).seconds == pytest.approx(10, rel=0.2)


def test_many_who_end_at_once_are_all_learnt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(histories, "ATTEMPTS", 1_000)
    recorded: list[History] = []

    class Counted(MemoryStore):
        def swap(self, key: str, old: bytes | None, new: bytes, ttl: int) -> bool:
            done = super().swap(key, old, new, ttl)
            if done:
                recorded.append(Learned.decode(new).history)
            return done

    store, barrier = Counted(), threading.Barrier(8)

    def one(n: int) -> None:
        mine = Histories(store, "p")
        barrier.wait()
        mine.learn(("t",), [], 10.0 + n)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(one, range(8)))
    assert len(recorded) == 8
    assert Histories(store, "p").load(("t",)).history.runs == 8


def test_brief_runs_are_learnt_now_and_then() -> None:
    class Counted(MemoryStore):
        swaps = 0

        def swap(self, key: str, old: bytes | None, new: bytes, ttl: int) -> bool:
            self.swaps += 1
            return super().swap(key, old, new, ttl)

    store = Counted()
    known = Histories(store, "p")
    for _ in range(100):
        known.learn(("t",), [], 0.001)
    assert 1 <= store.swaps <= 5
    known.learn(("t",), [], 1.0)
    known.learn(("t",), [], 1.0)
    assert 3 <= store.swaps <= 7


def test_it_goes_on_without_the_store() -> None:
    class Down(MemoryStore):
        def load(self, keys: Sequence[str]) -> list[bytes | None]:
            raise StoreUnavailable("no")

    known = Histories(Down(), "p")
    assert known.load(("t",)) == NOTHING
    known.learn(("t",), [], 1.0)


@pytest.mark.parametrize("value", [None, b"", b"x", b"r\xff\x00", b"-garbage", b"{}", b"r"])
def test_what_is_no_history_is_an_empty_one(value: bytes | None) -> None:
    assert Learned.decode(value).history == History()


def test_a_process_remembers_a_bounded_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(histories, "REMEMBERED", 10)
    known = Histories(MemoryStore(), "p")
    for n in range(100):
        known.load((f"t{n}",))
    assert len(known._known().histories) <= 10
