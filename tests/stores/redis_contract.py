"""What every Redis must do, on top of the contract: one server, Sentinel or Cluster."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from jobtastic_ext.claims.records import FOREVER, LINGER
from jobtastic_ext.stores import Store
from jobtastic_ext.stores.redis import RedisStore
from tests.stores.contract import JOINED, SharedStoreContract, begin, call, finish


class RedisContract(SharedStoreContract):
    @pytest.fixture
    def client(self) -> Any:
        """A client of the server that has the key, past the store."""
        raise NotImplementedError

    @pytest.fixture(autouse=True)
    def _client(self, client: Any) -> None:
        self.client_ = client

    def put(self, store: Store, key: str, raw: bytes) -> None:
        self.client_.set(key, raw)

    @pytest.mark.parametrize("command", ["HSET {} a b", "LPUSH {} a", "SADD {} a", "XADD {} * a b"])
    def test_a_value_of_another_type_counts_as_absent(
        self, store: Store, key: str, client: Any, command: str
    ) -> None:
        client.execute_command(*command.format(key).split())
        assert store.read(key) is None
        assert store.apply(key, call("a")).word == "claimed"
        assert store.apply(key, call("b")).word in JOINED

    def test_the_value_is_readable_json(self, store: Store, key: str, client: Any) -> None:
        store.apply(key, begin("a"))
        store.apply(key, finish("a", fresh=FOREVER))
        found = msgspec.json.decode(client.get(key))
        kept, ended, began = (found["value"].pop(name) for name in ("kept", "ended", "began"))
        assert kept == ended >= began > 1e12
        assert found == {"value": {"owner": "a", "gen": "ga", "fresh": FOREVER}}

    def test_the_key_expires_with_the_claim(self, store: Store, key: str, client: Any) -> None:
        store.apply(key, call("a", hold=100_000))
        assert 50_000 < client.pttl(key) - LINGER <= 100_000
        store.apply(key, begin("a", lease=200_000))
        assert 150_000 < client.pttl(key) - LINGER <= 200_000
        store.apply(key, finish("a", fresh=100_000))
        assert 50_000 < client.pttl(key) <= 100_000

    def test_a_claim_for_ever_has_no_expiry(self, store: Store, key: str, client: Any) -> None:
        store.apply(key, begin("a"))
        store.apply(key, finish("a", fresh=FOREVER))
        assert client.ttl(key) == -1

    def test_what_ends_at_once_leaves_no_key(self, store: Store, key: str, client: Any) -> None:
        store.apply(key, begin("a"))
        store.apply(key, finish("a"))
        assert client.exists(key) == 0

    def test_a_joined_call_writes_nothing(self, store: Store, key: str, client: Any) -> None:
        store.apply(key, call("a"))
        client.pexpire(key, 100_000)
        assert store.apply(key, call("b")).word in JOINED
        assert client.pttl(key) <= 100_000, "it was written again"

    def test_the_scripts_come_back_after_a_flush(self, store: Store, key: str, client: Any) -> None:
        store.apply(key, call("a"))
        client.script_flush()
        assert store.apply(key, call("b")).word in JOINED
        assert store.apply(key, call("c")).word in JOINED
        client.script_flush()
        assert store.read(key) is not None

    def test_the_address_and_the_repr(self, store: Store) -> None:
        assert isinstance(store, RedisStore)
        assert "127.0.0.1" in repr(store)


def direct(port: int, **options: Any) -> redis.Redis:
    return redis.Redis(port=port, socket_timeout=20, retry=Retry(NoBackoff(), 0), **options)
