"""The circuit breaker: an outage of the store costs a few calls, and ends by itself."""

from __future__ import annotations

import logging

import pytest

from jobtastic_ext.claims.records import Answer, Claim, Forget, Operation
from jobtastic_ext.claims.store import Store
from jobtastic_ext.errors import StoreError, StoreUnavailable
from jobtastic_ext.stores.guarded import LIMIT, GuardedStore
from tests.servers import wait_until


class Moody(Store):
    """Raises `mood`, if it has one."""

    def __init__(self) -> None:
        self.mood: StoreError | None = None
        self.asked = 0

    def apply(self, key: str, operation: Operation) -> Answer:
        self.ping()
        return Answer("ok")

    def read(self, key: str) -> Claim | None:
        self.ping()
        return None

    def ping(self) -> None:
        self.asked += 1
        if self.mood is not None:
            raise self.mood

    def close(self) -> None: ...


def test_it_opens_after_a_few_failures_and_closes_by_itself(
    caplog: pytest.LogCaptureFixture,
) -> None:
    store, failures = Moody(), []
    guarded = GuardedStore(store, "the store", lambda key, error: failures.append(key))
    with caplog.at_level(logging.INFO, logger="jobtastic_ext"):
        assert guarded.apply("k", Forget()).word == "ok"
        store.mood = StoreUnavailable("silent")
        for _ in range(LIMIT + 5):
            with pytest.raises(StoreError):
                guarded.apply("k", Forget())
        assert guarded.is_open
        assert failures == ["k"] * LIMIT
        store.mood = None
        wait_until(lambda: not guarded.is_open)
        assert guarded.read("k") is None
    levels = [record.levelno for record in caplog.records]
    assert levels == [logging.WARNING, logging.INFO]
    guarded.close()


def test_one_success_in_between_starts_the_count_anew() -> None:
    store = Moody()
    guarded = GuardedStore(store, "the store")
    for _ in range(3):
        store.mood = StoreUnavailable("silent")
        for _ in range(LIMIT - 1):
            with pytest.raises(StoreUnavailable):
                guarded.apply("k", Forget())
        store.mood = None
        guarded.apply("k", Forget())
    assert not guarded.is_open


def test_what_the_store_refuses_is_no_outage(caplog: pytest.LogCaptureFixture) -> None:
    """A server that answers is there, whatever it says; it is told once."""
    store, failures = Moody(), []
    guarded = GuardedStore(store, "the store", lambda key, error: failures.append(key))
    store.mood = StoreError("no rights")
    for _ in range(LIMIT + 5):
        with pytest.raises(StoreError, match="no rights"):
            guarded.apply("k", Forget())
    assert not guarded.is_open
    assert len(failures) == LIMIT + 5
    assert caplog.text.count("no rights") == 1
