from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from typing import Any

import pytest
from pymemcache.client.base import Client
from pymemcache.exceptions import MemcacheServerError, MemcacheUnknownCommandError

from jobtastic_ext.errors import StoreError, StoreUnavailable
from jobtastic_ext.stores import Store, memcached, open_store
from jobtastic_ext.stores.memcached import MemcachedSession
from tests.memcached import Memcached
from tests.servers import wait_until
from tests.stores.compare_and_set import AwayContract, first
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

    def test_evicted_while_it_is_changed(
        self, store: Store, key: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What was read is gone when it is to be replaced: the call claims what is free then."""
        store.apply(key, call("a"))
        put = MemcachedSession.put

        def evicted(session: MemcachedSession, name: str, *rest: Any) -> bool:
            monkeypatch.undo()
            session._client(name).delete(name, noreply=False)
            return put(session, name, *rest)

        monkeypatch.setattr(MemcachedSession, "put", evicted)
        assert store.apply(key, begin("a")).word == "run"
        claim = store.read(key)
        assert claim is not None
        assert claim.holder is not None
        assert claim.holder.state == "running"

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
    began = time.time_ns()
    for ahead, name, word in ((0, "a", "run"), (2_500, "b", "follow"), (60_000, "b", "run")):
        now = began + ahead * 1_000_000
        monkeypatch.setattr(memcached.time, "time_ns", lambda now=now: now)
        assert store.apply("skew", begin(name, lease=1_000)).word == word
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


def test_a_server_that_takes_no_more_connections_is_out_of_service() -> None:
    with Memcached("-c", "60") as server, ExitStack() as stack:
        store = open_store(f"memcached://127.0.0.1:{server.port}", timeout=10)
        stack.callback(store.close)
        others: list[Client] = []

        def is_taken() -> bool:
            others.append(Client(("127.0.0.1", server.port), timeout=10))
            stack.callback(others[-1].close)
            try:
                others[-1].version()
            except MemcacheUnknownCommandError:
                return True
            return False

        wait_until(is_taken)
        with pytest.raises(StoreUnavailable, match="no more connections"):
            store.apply("k", call("a"))
        for other in others:
            other.close()
        first(lambda: store.apply("k", call("a")).word, "claimed")


def test_a_server_without_room_says_what_to_do() -> None:
    with Memcached("-M", "-m", "2", "-I", "1m") as server:
        store = open_store(f"memcached://127.0.0.1:{server.port}", timeout=10)
        store.ping()
        filler = Client(("127.0.0.1", server.port))
        for size in (100_000, *range(0, 1000, 40)):
            with suppress(MemcacheServerError):
                for n in range(30_000):
                    filler.set(f"f{size}-{n}", b"x" * size, noreply=False)
        filler.close()
        with pytest.raises(StoreError, match=r"out of memory.*; give it more memory") as caught:
            store.apply("k", call("a"))
        assert not isinstance(caught.value, StoreUnavailable)
        store.close()


def test_what_is_too_large_is_refused_and_harms_nothing(servers: tuple[Memcached, ...]) -> None:
    store = open_store(f"memcached://127.0.0.1:{servers[0].port}", timeout=10)
    assert store.swap("large", None, b"x" * 900_000, 60_000)
    with pytest.raises(StoreError, match="too large") as caught:
        store.swap("large", b"x" * 900_000, b"x" * 1_100_000, 60_000)
    assert not isinstance(caught.value, StoreUnavailable)
    assert store.load(["large"]) == [b"x" * 900_000]
    store.close()
