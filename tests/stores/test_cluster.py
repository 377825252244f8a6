from __future__ import annotations

import time
import uuid
from bisect import bisect_right
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from redis.crc import key_slot

from jobtastic_ext.errors import StoreError, StoreUnavailable
from jobtastic_ext.stores.redis import RedisStore
from jobtastic_ext.testing.server import LOOPBACK, EmbeddedServer
from tests.servers import Cluster, SilentServer, closed_port, wait_until
from tests.stores.contract import JOINED, PATIENCE, call, together
from tests.stores.redis_contract import RedisContract, direct


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster() as cluster:
        yield cluster


def node_of(cluster: Cluster, key: str) -> EmbeddedServer:
    edges = [n * 16384 // 3 for n in range(3)]  # as `Cluster` shares the slots out
    return cluster.nodes[bisect_right(edges, key_slot(key.encode())) - 1]


def key_on(cluster: Cluster, node: EmbeddedServer) -> str:
    while True:
        key = uuid.uuid4().hex
        if node_of(cluster, key) is node:
            return key


class TestRedisStoreOnACluster(RedisContract):
    @pytest.fixture
    def url(self, cluster: Cluster) -> str:
        return cluster.url()

    @pytest.fixture
    def client(self, cluster: Cluster, key: str) -> Iterator[redis.Redis]:
        with direct(node_of(cluster, key).port) as client:
            yield client


def test_keys_of_all_nodes(cluster: Cluster) -> None:
    store = RedisStore(f"redis+cluster://{LOOPBACK}:{cluster.nodes[0].port}", timeout=PATIENCE)
    keys = [uuid.uuid4().hex for _ in range(60)]
    together(60, lambda n: store.apply(keys[n], call("a")))
    assert {node_of(cluster, key).port for key in keys} == {node.port for node in cluster.nodes}
    assert all(store.apply(key, call("b")).word in JOINED for key in keys)
    store.close()


@pytest.mark.parametrize("dead", ["silent", "deaf", "refusing"])
def test_a_dead_node_in_the_url_costs_no_call(cluster: Cluster, dead: str) -> None:
    with SilentServer(accepting=dead != "deaf") as server:
        port = closed_port() if dead == "refusing" else server.port
        url = cluster.url().replace("://", f"://{LOOPBACK}:{port},")
        for n in range(8):
            store = RedisStore(url, timeout=4)
            began = time.monotonic()
            assert store.apply(uuid.uuid4().hex, call(f"t{n}")).word == "claimed"
            assert time.monotonic() - began < 10  # bounded, whatever the machine is doing
            store.close()


def test_all_nodes_are_silent() -> None:
    with SilentServer() as one, SilentServer() as two:
        url = f"redis+cluster://{LOOPBACK}:{one.port},{LOOPBACK}:{two.port}"
        store = RedisStore(url, timeout=0.3)
        began = time.monotonic()
        with pytest.raises(StoreUnavailable, match="did not answer"):
            store.ping()
        assert time.monotonic() - began < 10  # bounded, whatever the machine is doing
        store.close()


def test_a_server_that_is_no_cluster(redis_server: EmbeddedServer) -> None:
    store = RedisStore(f"redis+cluster://{LOOPBACK}:{redis_server.port}")
    with pytest.raises(StoreError, match="cluster support disabled"):
        store.ping()
    store.close()


def test_a_slot_on_its_way_and_moved(cluster: Cluster) -> None:
    store = RedisStore(cluster.url(), timeout=PATIENCE)
    source, target = cluster.nodes[0], cluster.nodes[1]
    key = key_on(cluster, source)
    slot = key_slot(key.encode())
    tag = f"{{{key}}}-other"
    with (
        direct(source.port, decode_responses=True) as old,
        direct(target.port, decode_responses=True) as new,
    ):

        def node_id(client: Any) -> str:
            return str(client.execute_command("CLUSTER MYID"))

        assert store.apply(key, call("a")).word == "claimed"
        new.execute_command(f"CLUSTER SETSLOT {slot} IMPORTING {node_id(old)}")
        old.execute_command(f"CLUSTER SETSLOT {slot} MIGRATING {node_id(new)}")
        # Here the key is still at home; the other, which is nowhere yet, is ASKed for elsewhere.
        assert store.apply(key, call("b")).id == "a"
        assert store.apply(tag, call("c")).word == "claimed"
        assert store.apply(tag, call("d")).id == "c"
        old.execute_command("MIGRATE", LOOPBACK, target.port, key, 0, 10_000)
        assert store.apply(key, call("b")).id == "a"
        for client in (new, old):
            client.execute_command(f"CLUSTER SETSLOT {slot} NODE {node_id(new)}")
        assert store.apply(key, call("b")).id == "a"
        assert store.apply(tag, call("e")).id == "c"
        # And back, for the other tests.
        old.execute_command(f"CLUSTER SETSLOT {slot} IMPORTING {node_id(new)}")
        new.execute_command(f"CLUSTER SETSLOT {slot} MIGRATING {node_id(old)}")
        new.execute_command("MIGRATE", LOOPBACK, source.port, "", 0, 10_000, "KEYS", key, tag)
        for client in (old, new):
            client.execute_command(f"CLUSTER SETSLOT {slot} NODE {node_id(old)}")
        assert store.apply(key, call("b")).id == "a"
    store.close()


def test_a_dead_node_takes_only_its_own_keys_down() -> None:
    with Cluster() as cluster:
        store = RedisStore(cluster.url(), timeout=4)
        keys = [key_on(cluster, node) for node in cluster.nodes]
        for key in keys:
            assert store.apply(key, call("a")).word == "claimed"
        cluster.nodes[1].kill()
        for _ in range(5):
            for key in keys[0], keys[2]:
                assert store.apply(key, call("b")).id == "a"
            began = time.monotonic()
            with pytest.raises(StoreUnavailable):
                store.apply(keys[1], call("b"))
            assert time.monotonic() - began < 10  # bounded, whatever the machine is doing
        cluster.nodes[1].start()

        def is_back() -> bool:
            try:
                return store.apply(keys[1], call("c")).word == "claimed"
            except StoreUnavailable:
                return False

        wait_until(is_back)
        store.close()
