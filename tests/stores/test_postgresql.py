from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from jobtastic_ext.errors import StoreError, StoreUnavailable
from jobtastic_ext.stores import open_store
from tests.databases import Database
from tests.servers import wait_until
from tests.stores.compare_and_set import first
from tests.stores.contract import JOINED, PATIENCE, SharedStoreContract, begin, call
from tests.stores.sql_contract import SQLContract

psycopg = pytest.importorskip("psycopg")
from jobtastic_ext.stores.sql import SQLSession  # noqa: E402

WAITING = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"


class TestPostgreSQLStore(SQLContract, SharedStoreContract):
    THREADS = 50
    read_only = "ALTER USER reader SET default_transaction_read_only = on"
    read_write = "ALTER USER reader RESET default_transaction_read_only"

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

    def test_many_who_miss_the_table_make_it_at_the_same_moment(
        self, url: str, key: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """One is told that the table is there, or its row type, or a row of the catalogue."""
        with self.connect() as other:
            other.execute("CREATE DATABASE young")
        execute, kinds = SQLSession._execute, iter(["TYPE jobtastic_claims AS ENUM ()"])

        def others_first(session: SQLSession, statement: str, values: Any) -> int:
            with psycopg.connect(self.server.replace("/test", "/young"), autocommit=True) as other:
                for kind in kinds:
                    other.execute(f"CREATE {kind}")
                    try:
                        return execute(session, statement, values)
                    finally:
                        other.execute("DROP TYPE jobtastic_claims")
                        other.execute(statement)
            return execute(session, statement, values)

        monkeypatch.setattr(SQLSession, "_execute", others_first)
        store = open_store(url.replace("/test", "/young"), timeout=10)
        assert store.apply(key, call("a")).word == "claimed"
        assert next(kinds, None) is None
        store.close()

    def test_a_change_that_a_lock_kept_too_long_is_made_again(
        self, url: str, key: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Where the project bounds how long it waits for locks."""
        put, tries = SQLSession.put, []

        def counted(*arguments: Any) -> bool:
            tries.append(arguments)
            return put(*arguments)

        with self.connect() as other:
            other.execute("CREATE USER hasty")
            other.execute("ALTER USER hasty SET lock_timeout = 50")
        open_store(url, timeout=10).apply(key, call("a"))
        with self.connect() as other, ThreadPoolExecutor(1) as pool:
            other.execute("GRANT ALL ON jobtastic_claims TO hasty")
            store = open_store(url.replace("postgres@", "hasty@"), timeout=20)
            store.ping()
            other.execute("BEGIN")
            other.execute("SELECT 1 FROM jobtastic_claims WHERE name = %s FOR UPDATE", (key,))
            monkeypatch.setattr(SQLSession, "put", counted)
            answer = pool.submit(store.apply, key, begin("a"))
            wait_until(lambda: len(tries) > 3 or answer.done())
            other.execute("COMMIT")
            assert answer.result(PATIENCE).word == "run"
        store.close()

    def test_nothing_is_tried_again_for_who_waits_no_more(self, url: str, key: str) -> None:
        open_store(url, timeout=10).apply(key, call("a"))
        slow = {"options": "-c statement_timeout=2000"}
        store = open_store(url, timeout=0.5, connect_args=slow)
        first(lambda: store.apply(key, call("b")).word in JOINED, True)
        with self.connect() as other, self.connect() as third:
            other.execute("BEGIN")
            other.execute("SELECT 1 FROM jobtastic_claims WHERE name = %s FOR UPDATE", (key,))
            with pytest.raises(StoreUnavailable):
                store.apply(key, begin("a"))

            def given_up() -> bool:
                waiting = len(third.execute(WAITING).fetchall())
                assert waiting < 2
                return not waiting

            wait_until(given_up)
            other.execute("COMMIT")
        store.close()
        store = open_store(url, timeout=PATIENCE)
        claim = store.read(key)
        assert claim is not None
        assert claim.holder is not None
        assert claim.holder.state == "queued"
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
                    wait_until(lambda: third.execute(WAITING).fetchall())
                other.commit()
                assert answer.result(PATIENCE).word == "run"
        store.close()
