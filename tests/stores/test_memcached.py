from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress

import pytest
from pymemcache.client.base import Client

from jobtastic_ext.errors import StoreError, StoreUnavailable
from jobtastic_ext.stores import Store, memcached, open_store
from tests.memcached import Memcached
from tests.stores.compare_and_set import AwayContract
from tests.stores.contract import JOINED, SharedStoreContract, begin, call


@pytest.fixture(scope="module")
def servers() -> Iterator[tuple[Memcached, ...]]:
    with Memcached() as one, Memcached() as other:
        yield one, other


class TestMemcachedStore(AwayContract, SharedStoreContract):
    THREADS = 50

    @pytest.fixture(autouse=True)
    def _one_clock(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(memcached, "SKEW", 0)

    @pytest.fixture
    def url(self, servers: tuple[Memcached, ...]) -> str:
        self.ports = [server.port for server in servers]
        self.port = self.ports[0]
        return "memcached://" + ",".join(f"127.0.0.1:{port}" for port in self.ports)

    def test_claims_are_listed(self, store: Store, key: str) -> None:
        """No server of memcached tells its keys."""
        with pytest.raises(StoreError, match="cannot tell what it holds; name a claim by its key"):
            next(store.pages(key))

    test_claims_on_many_pages = None

    def place(self, port: int) -> str:
        return f"memcached://127.0.0.1:{port}"

    def put(self, store: Store, key: str, raw: bytes) -> None:
        for port in self.ports:  # whichever it is looked for on
            client = Client(("127.0.0.1", port))
            client.set(key, raw, noreply=False)
            client.close()


def test_leases_allow_for_clocks_that_differ(
    servers: tuple[Memcached, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who is a second and a half ahead does not take a run over that is renewed in time."""
    store = open_store(f"memcached://127.0.0.1:{servers[0].port}", timeout=10)
    assert store.apply("skew", begin("a", lease=1_000)).word == "run"
    real = time.time_ns
    monkeypatch.setattr(memcached.time, "time_ns", lambda: real() + 2_500_000_000)
    assert store.apply("skew", begin("b")).word == "follow"
    monkeypatch.setattr(memcached.time, "time_ns", lambda: real() + 60_000_000_000)
    assert store.apply("skew", begin("b")).word == "run"
    store.close()


def test_a_key_stays_on_its_server_while_that_is_away(servers: tuple[Memcached, ...]) -> None:
    with Memcached() as away:
        url = f"memcached://127.0.0.1:{servers[0].port},127.0.0.1:{away.port}"
        store = open_store(url, timeout=10)
        words = {f"k{n}": store.apply(f"k{n}", call("a")).word for n in range(20)}
        assert set(words.values()) == {"claimed"}
    found = []
    for name in words:
        with suppress(StoreUnavailable):
            assert store.apply(name, call("b")).word in JOINED
            found.append(name)
    assert 0 < len(found) < 20
    store.close()
