"""What every database must do beside the contract: they differ in how a few rows are deleted."""

from __future__ import annotations

import logging
from contextlib import closing
from typing import Any

import pytest
from sqlalchemy.engine import make_url

from jobtastic_ext.errors import StoreUnavailable
from jobtastic_ext.stores import Store, open_store, sql
from tests.stores.compare_and_set import AwayContract
from tests.stores.contract import call


class SQLContract(AwayContract):
    """Inherited beside `SharedStoreContract`; `connect` opens the database past the store."""

    #: Has new sessions of a user written nothing, and written again.
    read_only, read_write = "", ""

    def connect(self) -> Any:
        """With autocommit."""
        raise NotImplementedError

    def put(self, store: Store, key: str, raw: bytes) -> None:
        store.ping()
        with closing(self.connect()) as other, other.cursor() as cursor:
            cursor.execute(
                "INSERT INTO jobtastic_claims VALUES (%s, %s, 1, 90000000000000)", (key, raw)
            )

    def test_what_has_ended_is_purged_in_small_bites(
        self, store: Store, key: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store.ping()
        with closing(self.connect()) as other, other.cursor() as cursor:
            cursor.execute("DELETE FROM jobtastic_claims")
            for n in range(10):
                cursor.execute("INSERT INTO jobtastic_claims VALUES (%s, 'x', 1, 1)", (f"{n}",))
            monkeypatch.setattr(sql, "PURGE_EVERY", 1)
            monkeypatch.setattr(sql, "PURGE_BATCH", 3)
            left = []
            for n in range(5):
                store.apply(f"{key}-{n}", call("a"))
                cursor.execute("SELECT count(*) FROM jobtastic_claims WHERE expires = 1")
                left += cursor.fetchone()
            assert left == [7, 4, 1, 0, 0]
            cursor.execute("SELECT count(*) FROM jobtastic_claims")
            assert cursor.fetchone() == (5,), "a claim that has not ended was purged"

    def test_what_somebody_else_has_locked_is_passed_by_when_purging(
        self,
        url: str,
        key: str,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        monkeypatch.setattr(sql, "PURGE_EVERY", 1)
        store = open_store(url, timeout=5)
        store.ping()
        with closing(self.connect()) as other, other.cursor() as cursor:
            cursor.execute("DELETE FROM jobtastic_claims")
            for n in range(3):
                cursor.execute("INSERT INTO jobtastic_claims VALUES (%s, 'x', 1, 1)", (f"{n}",))
            cursor.execute("BEGIN")
            cursor.execute("SELECT 1 FROM jobtastic_claims WHERE name = '1' FOR UPDATE")
            assert store.apply(key, call("a")).word == "claimed"
            cursor.execute("COMMIT")
            cursor.execute("SELECT name FROM jobtastic_claims WHERE expires = 1")
            assert [name for (name,) in cursor.fetchall()] == ["1"]
        assert not caplog.records
        store.close()

    def bound(self, cursor: Any, url: str, user: str) -> Store:
        """The store of a new user, who may not delete."""
        cursor.execute(f"CREATE USER {user}")
        cursor.execute(f"GRANT SELECT, INSERT, UPDATE ON jobtastic_claims TO {user}")
        return open_store(url.replace(f"//{make_url(url[3:]).username}@", f"//{user}@"), timeout=10)

    def test_a_server_that_takes_no_writes_is_not_back(self, store: Store, url: str) -> None:
        """As after a failover: it answers, and a call cannot claim."""
        store.ping()
        with closing(self.connect()) as other, other.cursor() as cursor:
            bound = self.bound(cursor, url, "reader")
            cursor.execute(self.read_only)
            try:
                with pytest.raises(StoreUnavailable, match=r"check that it .* accepts writes"):
                    bound.ping()
            finally:
                cursor.execute(self.read_write)
            bound.close()
            bound.ping()
            bound.close()

    def test_a_purge_that_fails_is_told_once(
        self,
        store: Store,
        url: str,
        key: str,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        monkeypatch.setattr(sql, "PURGE_EVERY", 1)
        store.ping()
        user = f"u{key[-12:]}"
        with closing(self.connect()) as other, other.cursor() as cursor:
            bound = self.bound(cursor, url, user)
            cursor.execute("INSERT INTO jobtastic_claims VALUES (%s, 'x', 1, 1)", (user,))
            with caplog.at_level(logging.INFO, sql.logger.name):
                for n in range(3):
                    assert bound.apply(f"{key}-{n}", call("a")).word == "claimed"
                assert [record.levelname for record in caplog.records] == ["WARNING"]
                assert "check that the user may DELETE" in caplog.text
                cursor.execute(f"GRANT DELETE ON jobtastic_claims TO {user}")
                for n in range(3):
                    assert bound.apply(f"{key}+{n}", call("a")).word == "claimed"
            assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
            bound.close()
