from __future__ import annotations

from collections.abc import Iterator

import pytest
from pymemcache.client.base import Client

from jobtastic_ext.stores import Store, memcached
from tests.memcached import Memcached
from tests.stores.compare_and_set import AwayContract
from tests.stores.contract import SharedStoreContract


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

    def place(self, port: int) -> str:
        return f"memcached://127.0.0.1:{port}"

    def put(self, store: Store, key: str, raw: bytes) -> None:
        for port in self.ports:  # whichever it is looked for on
            client = Client(("127.0.0.1", port))
            client.set(key, raw, noreply=False)
            client.close()
