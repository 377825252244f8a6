from __future__ import annotations

import pytest

from jobtastic_ext.stores import Store
from tests.databases import Database
from tests.stores.compare_and_set import AwayContract
from tests.stores.contract import SharedStoreContract

psycopg = pytest.importorskip("psycopg")


class TestPostgreSQLStore(AwayContract, SharedStoreContract):
    THREADS = 50

    @pytest.fixture
    def url(self, postgres: Database) -> str:
        self.port, self.server = postgres.port, postgres.url
        return f"db+{postgres.url}"

    def place(self, port: int) -> str:
        return f"db+postgresql://postgres@127.0.0.1:{port}/test"

    def put(self, store: Store, key: str, raw: bytes) -> None:
        store.ping()
        with psycopg.connect(self.server) as other:
            other.execute(
                "INSERT INTO jobtastic_claims VALUES (%s, %s, 1, 90000000000000)", (key, raw)
            )
