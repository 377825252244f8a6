from __future__ import annotations

import psycopg
import pytest

from jobtastic_ext.stores import Store
from tests.databases import Database
from tests.stores.contract import SharedStoreContract


class TestPostgreSQLStore(SharedStoreContract):
    @pytest.fixture
    def url(self, postgres: Database) -> str:
        self.place = postgres.url
        return f"db+{postgres.url}"

    def put(self, store: Store, key: str, raw: bytes) -> None:
        store.ping()
        with psycopg.connect(self.place) as other:
            other.execute(
                "INSERT INTO jobtastic_claims VALUES (%s, %s, 1, 90000000000000)", (key, raw)
            )
