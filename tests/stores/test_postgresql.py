from __future__ import annotations

import pytest

from jobtastic_ext.errors import StoreError, StoreUnavailable
from jobtastic_ext.stores import Store, open_store, sql
from tests.databases import Database
from tests.stores.compare_and_set import AwayContract
from tests.stores.contract import SharedStoreContract, call

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

    def test_what_has_ended_is_purged_in_small_bites(
        self, store: Store, key: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store.ping()
        with psycopg.connect(self.server, autocommit=True) as other:
            other.execute("DELETE FROM jobtastic_claims")
            for n in range(10):
                other.execute("INSERT INTO jobtastic_claims VALUES (%s, 'x', 1, 1)", (f"{n}",))
            monkeypatch.setattr(sql, "PURGE_EVERY", 1)
            monkeypatch.setattr(sql, "PURGE_BATCH", 3)
            left = []
            for n in range(5):
                store.apply(f"{key}-{n}", call("a"))
                query = "SELECT count(*) FROM jobtastic_claims WHERE expires = 1"
                left += other.execute(query).fetchone()
        assert left == [7, 4, 1, 0, 0]

    def test_a_user_who_may_not_create_tables_is_told_what_to_run(self, url: str) -> None:
        with psycopg.connect(self.server, autocommit=True) as other:
            other.execute("CREATE DATABASE bare")
            other.execute("CREATE USER guest")
        bare = url.replace("postgres@", "guest@").replace("/test", "/bare")
        store = open_store(bare, timeout=10)
        with pytest.raises(StoreError, match="celery jobtastic schema --sql") as caught:
            store.ping()
        assert not isinstance(caught.value, StoreUnavailable)
        store.close()
