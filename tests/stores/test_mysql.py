from __future__ import annotations

from typing import Any

import pytest

from tests.databases import Database
from tests.stores.contract import SharedStoreContract
from tests.stores.sql_contract import SQLContract

pymysql = pytest.importorskip("pymysql")


class TestMySQLStore(SQLContract, SharedStoreContract):
    THREADS = 50

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
