from __future__ import annotations

from typing import Any

import pytest

from jobtastic_ext.errors import StoreError, StoreUnavailable
from jobtastic_ext.stores import open_store
from tests.databases import Database
from tests.stores.contract import SharedStoreContract
from tests.stores.sql_contract import SQLContract

psycopg = pytest.importorskip("psycopg")


class TestPostgreSQLStore(SQLContract, SharedStoreContract):
    THREADS = 50

    @pytest.fixture
    def url(self, postgres: Database) -> str:
        self.port, self.server = postgres.port, postgres.url
        return f"db+{postgres.url}"

    def place(self, port: int) -> str:
        return f"db+postgresql://postgres@127.0.0.1:{port}/test"

    def connect(self) -> Any:
        return psycopg.connect(self.server, autocommit=True)

    def test_a_user_who_may_not_create_tables_is_told_what_to_run(self, url: str) -> None:
        with self.connect() as other:
            other.execute("CREATE DATABASE bare")
            other.execute("CREATE USER guest")
        bare = url.replace("postgres@", "guest@").replace("/test", "/bare")
        store = open_store(bare, timeout=10)
        with pytest.raises(StoreError, match="celery jobtastic schema --sql") as caught:
            store.ping()
        assert not isinstance(caught.value, StoreUnavailable)
        store.close()
