from __future__ import annotations

from contextlib import closing

import pytest

from jobtastic_ext.stores import Store
from tests.databases import Database
from tests.stores.compare_and_set import AwayContract
from tests.stores.contract import SharedStoreContract

pymysql = pytest.importorskip("pymysql")


class TestMySQLStore(AwayContract, SharedStoreContract):
    THREADS = 50

    @pytest.fixture
    def url(self, mariadb: Database) -> str:
        self.port = mariadb.port
        return f"db+{mariadb.url}"

    def place(self, port: int) -> str:
        return f"db+mysql+pymysql://root@127.0.0.1:{port}/test?ssl_disabled=true"

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
