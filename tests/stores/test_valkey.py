from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis

from jobtastic_ext.testing.server import EmbeddedServer
from tests.stores.redis_contract import RedisContract, direct


class TestRedisStoreOnValkey(RedisContract):
    @pytest.fixture
    def url(self, valkey_server: EmbeddedServer) -> str:
        return valkey_server.url(5)

    @pytest.fixture
    def client(self, valkey_server: EmbeddedServer) -> Iterator[redis.Redis]:
        with direct(valkey_server.port, db=5) as client:
            yield client
