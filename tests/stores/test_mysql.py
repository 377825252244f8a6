from __future__ import annotations

from concurrent.futures import Future
from contextlib import closing
from threading import Thread
from typing import Any

import pytest

from jobtastic_ext.stores import Store, open_store, sql
from tests.databases import Database
from tests.servers import wait_until
from tests.stores.contract import JOINED, PATIENCE, SharedStoreContract, call
from tests.stores.sql_contract import SQLContract

pymysql = pytest.importorskip("pymysql")
from jobtastic_ext.stores.sql import SQLSession  # noqa: E402

LOCK = "SELECT name FROM jobtastic_claims WHERE name = %s FOR UPDATE"


def lock_when_found(monkeypatch: pytest.MonkeyPatch, cursor: Any, name: str) -> None:
    """Lock a row between the two steps of a purge."""
    rows = SQLSession._rows

    def then_locked(session: SQLSession, query: str, values: Any) -> list[Any]:
        found = rows(session, query, values)
        if "SKIP LOCKED" in query:
            cursor.execute(LOCK, [name])
        return found

    monkeypatch.setattr(SQLSession, "_rows", then_locked)


class TestMySQLStore(SQLContract, SharedStoreContract):
    THREADS = 50
    read_only, read_write = "SET GLOBAL read_only = 1", "SET GLOBAL read_only = 0"

    @pytest.fixture
    def url(self, mariadb: Database) -> str:
        self.port = mariadb.port
        return f"db+{mariadb.url}"

    def place(self, port: int) -> str:
        return f"db+mysql+pymysql://root@127.0.0.1:{port}/test?ssl_disabled=true"

    def connect(self) -> Any:
        return pymysql.connect(
            host="127.0.0.1", port=self.port, user="root", database="test", autocommit=True
        )

    def test_a_change_undone_by_a_deadlock_is_made_again(self, store: Store, key: str) -> None:
        """InnoDB ends a deadlock by undoing the statement of whoever has written less.

        It has many for what looks innocent: two inserts of one name while a third removes what has
        ended.  Here, the store's insert has its name and waits for the gap in the other index, of
        somebody who has written more and then asks for that name.
        """
        store.apply(f"{key}-b", call("b"))
        with closing(self.connect()) as other, other.cursor() as cursor:
            self.write_much(cursor, key)
            cursor.execute("SELECT name FROM jobtastic_claims WHERE expires > 1 FOR UPDATE")
            answers = self.called(store, key)
            cursor.execute(
                "UPDATE jobtastic_claims SET name = %s WHERE name = %s", (key, f"{key}-b")
            )
            cursor.execute("COMMIT")
            assert answers.result(PATIENCE).word in JOINED

    def test_a_purge_undone_by_a_deadlock_is_no_lack_of_rights(
        self,
        store: Store,
        key: str,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        monkeypatch.setattr(sql, "PURGE_EVERY", 1)
        store.ping()
        with closing(self.connect()) as other, other.cursor() as cursor:
            cursor.execute("DELETE FROM jobtastic_claims")
            ended = [f"{key}-ended-{n}" for n in (1, 2)]
            for n, name in enumerate(ended):
                cursor.execute("INSERT INTO jobtastic_claims VALUES (%s, 'x', 1, %s)", (name, n))
            self.write_much(cursor, key)
            lock_when_found(monkeypatch, cursor, ended[1])
            answers = self.called(store, key)
            cursor.execute(LOCK, [ended[0]])
            assert cursor.fetchall(), "the purge was not undone"
            cursor.execute("ROLLBACK")
            assert answers.result(PATIENCE).word == "claimed"
        assert not caplog.records

    def test_a_purge_that_waited_for_a_lock_in_vain_is_no_lack_of_rights(
        self, url: str, key: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Of somebody who comes between the two steps, or on a server that cannot pass by."""
        monkeypatch.setattr(sql, "PURGE_EVERY", 1)
        hasty = {"init_command": "SET SESSION innodb_lock_wait_timeout = 1"}
        store = open_store(url, timeout=20, connect_args=hasty)
        store.ping()
        with closing(self.connect()) as other, other.cursor() as cursor:
            cursor.execute("INSERT INTO jobtastic_claims VALUES (%s, 'x', 1, 1)", (f"{key}-ended",))
            cursor.execute("BEGIN")
            lock_when_found(monkeypatch, cursor, f"{key}-ended")
            assert store.apply(key, call("a")).word == "claimed"
            cursor.execute("ROLLBACK")
            assert cursor.execute(LOCK, [f"{key}-ended"]) == 1, "it was purged"
        assert not caplog.records
        store.close()

    def write_much(self, cursor: Any, key: str) -> None:
        """Begin a transaction that the server will not choose as the one that is undone."""
        cursor.execute("BEGIN")
        for n in range(50):
            cursor.execute(
                "INSERT INTO jobtastic_claims VALUES (%s, 'x', 1, 90000000000000)", (f"{key}-{n}",)
            )

    def called(self, store: Store, key: str) -> Future[Any]:
        """Claim in a thread, and go on when that waits for a lock."""
        future: Future[Any] = Future()
        Thread(target=lambda: future.set_result(store.apply(key, call("a"))), daemon=True).start()
        with closing(self.connect()) as other, other.cursor() as cursor:

            def waits() -> bool:
                cursor.execute("SHOW STATUS LIKE 'Innodb_row_lock_current_waits'")
                return cursor.fetchall() == (("Innodb_row_lock_current_waits", "1"),)

            wait_until(waits)
        return future
