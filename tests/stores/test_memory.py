from __future__ import annotations

import os
import uuid

import pytest

from jobtastic_ext.claims.records import LINGER, ClaimCall
from jobtastic_ext.stores import open_store
from jobtastic_ext.stores.memory import SWEEP_EVERY, MemoryStore
from tests.stores.contract import JOINED, StoreContract, call


class TestMemoryStore(StoreContract):
    @pytest.fixture
    def url(self) -> str:
        return f"memory://{uuid.uuid4().hex}"


def test_other_urls_have_other_claims() -> None:
    one, other = uuid.uuid4().hex, uuid.uuid4().hex
    assert open_store(f"memory://{one}").apply("k", call("a")).word == "claimed"
    assert open_store(f"memory://{other}").apply("k", call("b")).word == "claimed"


def test_the_clock_is_given() -> None:
    now = 0
    store = MemoryStore(clock=lambda: now)
    store.apply("k", call("a", hold=1_000))
    now = 999
    assert store.apply("k", call("b")).word in JOINED
    now = 1_000
    assert store.apply("k", call("b", hold=1_000)).word == "takeover"
    now = 2_000 + LINGER
    assert store.apply("k", call("b")).word == "claimed"


def test_what_has_ended_does_not_fill_the_memory() -> None:
    now = 0
    store = MemoryStore(clock=lambda: now)
    for n in range(SWEEP_EVERY - 1):
        store.apply(f"k{n}", ClaimCall(task_id="a", gen="g", hold=1))
    now = 10 + LINGER
    store.apply("last", call("a"))
    assert len(store._memory()._claims) == 1


def test_a_forked_child_knows_no_claims() -> None:
    store = MemoryStore()
    store.apply("k", call("a"))
    pid = os.fork()
    if not pid:
        os._exit(0 if store.apply("k", call("b")).word == "claimed" else 1)
    assert os.waitpid(pid, 0)[1] == 0
    assert store.apply("k", call("b")).word in JOINED
