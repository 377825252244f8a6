"""What every database must do beside the contract: they differ in how a few rows are deleted."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import pytest

from jobtastic_ext.stores import Store, sql
from tests.stores.compare_and_set import AwayContract
from tests.stores.contract import call


class SQLContract(AwayContract):
    """Inherited beside `SharedStoreContract`; `connect` opens the database past the store."""

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
