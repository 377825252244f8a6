from __future__ import annotations

from contextlib import closing

import pymysql
import pytest

from jobtastic_ext.stores import Store
from tests.databases import Database
from tests.stores.contract import SharedStoreContract


class TestMySQLStore(SharedStoreContract):
    @pytest.fixture
    def url(self, mariadb: Database) -> str:
        self.port = mariadb.port
        return f"db+{mariadb.url}"

    def put(self, store: Store, key: str, raw: bytes) -> None:
        store.ping()
        with (
            closing(
                pymysql.connect(host="127.0.0.1", port=self.port, user="root", database="test")
            ) as other,
            other.cursor() as cursor,
        ):
            cursor.execute(
                "INSERT INTO jobtastic_claims VALUES (%s, %s, 1, 90000000000000)", (key, raw)
            )
            other.commit()
