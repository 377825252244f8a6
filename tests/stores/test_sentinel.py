from __future__ import annotations

import time
import uuid
from collections.abc import Iterator

import pytest
import redis

from jobtastic_ext.errors import StoreUnavailable
from jobtastic_ext.stores import open_store
from jobtastic_ext.stores.redis import RedisStore
from jobtastic_ext.testing.server import LOOPBACK
from tests.servers import Sentinel, SilentServer, closed_port, wait_until
from tests.stores.contract import PATIENCE, call
from tests.stores.redis_contract import RedisContract, direct


@pytest.fixture(scope="module")
def sentinel() -> Iterator[Sentinel]:
    with Sentinel(away=600) as sentinel:
        yield sentinel


class TestRedisStoreUnderSentinel(RedisContract):
    @pytest.fixture
    def url(self, sentinel: Sentinel) -> str:
        return sentinel.url(2)

    @pytest.fixture
    def client(self, sentinel: Sentinel) -> Iterator[redis.Redis]:
        with direct(sentinel.master.port, db=2) as client:
            yield client


@pytest.mark.parametrize("dead", ["silent", "deaf", "refusing"])
def test_a_dead_sentinel_costs_no_call(sentinel: Sentinel, dead: str) -> None:
    with SilentServer(accepting=dead != "deaf") as server:
        port = closed_port() if dead == "refusing" else server.port
        store = RedisStore(f"sentinel://{LOOPBACK}:{port};{sentinel.url()}", timeout=4)
        for n in range(3):
            began = time.monotonic()
            assert store.apply(uuid.uuid4().hex, call(f"t{n}")).word == "claimed"
            assert time.monotonic() - began < 10  # bounded, whatever the machine is doing
        store.close()


def test_all_sentinels_are_silent() -> None:
    with SilentServer() as one, SilentServer() as two:
        url = f"sentinel://{LOOPBACK}:{one.port};sentinel://{LOOPBACK}:{two.port}?master_name=m"
        store = RedisStore(url, timeout=0.4)
        began = time.monotonic()
        with pytest.raises(StoreUnavailable, match="No master found for 'm'"):
            store.ping()
        assert time.monotonic() - began < 10  # bounded, whatever the machine is doing
        store.close()


def test_the_master_is_unknown(sentinel: Sentinel) -> None:
    store = open_store(sentinel.url().replace(Sentinel.NAME, "other"))
    with pytest.raises(StoreUnavailable, match="No master found for 'other'"):
        store.ping()
    store.close()


def test_celerys_options(sentinel: Sentinel) -> None:
    url = sentinel.url().partition("?")[0]
    store = open_store(url, master_name=Sentinel.NAME, sentinel_kwargs={"socket_timeout": 99})
    store.ping()
    store.close()


def test_a_failover() -> None:
    with Sentinel(sentinels=1) as group:
        store = RedisStore(group.url(), timeout=2)
        key = uuid.uuid4().hex
        assert store.apply(key, call("a")).word == "claimed"
        with direct(group.replica.port) as replica:
            wait_until(lambda: replica.exists(key))
        group.master.kill()
        longest, unavailable = 0.0, 0
        deadline = time.monotonic() + PATIENCE
        while True:
            began = time.monotonic()
            try:
                answer = store.apply(key, call("b"))
                break
            except StoreUnavailable:
                unavailable += 1
                longest = max(longest, time.monotonic() - began)
                assert time.monotonic() < deadline
                time.sleep(0.05)
        assert answer.id == "a"
        assert store.apply(uuid.uuid4().hex, call("c")).word == "claimed"
        assert unavailable > 0
        assert longest < 10  # bounded, whatever the machine is doing
        # The old master comes back; it is told to be a replica, and nobody writes to it.
        group.master.start()
        assert store.apply(key, call("d")).id == "a"
        store.close()
