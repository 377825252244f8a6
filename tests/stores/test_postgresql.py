from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from jobtastic_ext.errors import StoreError, StoreUnavailable
from jobtastic_ext.stores import open_store
from tests.databases import Database
from tests.servers import wait_until
from tests.stores.contract import SharedStoreContract, begin, call
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

    def test_a_change_undone_by_another_is_made_again(self, url: str, key: str) -> None:
        """Where a project asks for stricter transactions, the server undoes what came second."""
        with self.connect() as other:
            other.execute("CREATE DATABASE strict")
            other.execute("ALTER DATABASE strict SET default_transaction_isolation = serializable")
        store = open_store(url.replace("/test", "/strict"), timeout=10)
        store.apply(key, call("a"))
        with psycopg.connect(self.server.replace("/test", "/strict"), autocommit=False) as other:
            other.execute("UPDATE jobtastic_claims SET version = 1 WHERE name = %s", (key,))
            with ThreadPoolExecutor(1) as pool:
                answer = pool.submit(store.apply, key, begin("a"))
                with self.connect() as third:
                    waiting = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
                    wait_until(lambda: third.execute(waiting).fetchall())
                other.commit()
                assert answer.result(20).word == "run"
        store.close()
