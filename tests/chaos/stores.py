"""The stores that chaos is done to: one server behind a proxy, Sentinel, a cluster of 3+3."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from contextlib import ExitStack
from types import TracebackType
from typing import Any

import redis

from jobtastic_ext.testing.server import LOOPBACK, EmbeddedServer, free_port
from tests.servers import Cluster, Proxy, Sentinel, info, wait_until

#: An injury returns what it was: ``lost`` (data may be gone) or ``away`` (it did not answer).
Injury = Callable[[float], str]


class Victim:
    """A store, and what can be done to it."""

    url: str

    def __init__(self) -> None:
        self.stack = ExitStack()

    def __enter__(self) -> Victim:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stack.close()

    def injuries(self) -> dict[str, Injury]:
        raise NotImplementedError

    def clients(self) -> list[redis.Redis]:
        """A client of each server that holds claims."""
        raise NotImplementedError

    def flush(self, seconds: float) -> str:
        for client in self.clients():
            with contextlib.suppress(redis.RedisError):  # a replica, or one that is down
                client.flushall()
        return "lost"

    def keys(self) -> dict[str, bytes]:
        found: dict[str, bytes] = {}
        for client in self.clients():
            with contextlib.suppress(redis.ResponseError):  # a replica of a cluster
                for key in client.scan_iter("*", count=1000, _type="string"):
                    found[key.decode()] = client.get(key) or b""
        return found


def client(port: int) -> redis.Redis:
    return redis.Redis(port=port, socket_timeout=5)


class Alone(Victim):
    """One server, which everybody reaches through a proxy."""

    def __init__(self) -> None:
        super().__init__()
        self.server = self.stack.enter_context(EmbeddedServer())
        self.proxy = self.stack.enter_context(Proxy(self.server.port))
        self.url = f"redis://{LOOPBACK}:{self.proxy.port}/0"

    def injuries(self) -> dict[str, Injury]:
        return {
            "restart": self.restart,
            "flush": self.flush,
            "drop": lambda seconds: self.through(self.proxy.refuse, seconds),
            "delay": lambda seconds: self.through(lambda: self.proxy.be_slow(0.3), seconds),
            "blackhole": lambda seconds: self.through(self.proxy.be_silent, seconds),
        }

    def clients(self) -> list[redis.Redis]:
        return [client(self.server.port)]

    def restart(self, seconds: float) -> str:
        self.server.kill()
        time.sleep(seconds / 2)
        self.server.start()
        return "lost"

    def through(self, upset: Callable[[], None], seconds: float) -> str:
        upset()
        time.sleep(seconds)
        self.proxy.open()
        return "away"


class Watched(Victim):
    """A master and its replica under three sentinels."""

    def __init__(self) -> None:
        super().__init__()
        self.group = self.stack.enter_context(Sentinel())
        self.url = self.group.url()

    def injuries(self) -> dict[str, Injury]:
        return {"failover": self.failover, "flush": self.flush}

    def clients(self) -> list[redis.Redis]:
        return [client(self.master())]

    def master(self) -> int:
        sentinel = redis.Redis(port=self.group.sentinels[0].port, decode_responses=True)
        with sentinel:
            return int(sentinel.execute_command("SENTINEL GET-MASTER-ADDR-BY-NAME mymaster")[1])

    def failover(self, seconds: float) -> str:
        old = self.master()
        servers = (self.group.master, self.group.replica)
        killed = next(server for server in servers if server.port == old)
        killed.kill()
        wait_until(lambda: self.master() != old)
        wait_until(lambda: client(self.master()).info("replication")["role"] == "master")
        killed.start()
        # After two failovers in a row the sentinels take minutes to make it a replica.
        wait_until(lambda: client(old).replicaof("127.0.0.1", self.master()), timeout=120)
        wait_until(
            lambda: client(old).info("replication").get("master_link_status") == "up",
            timeout=120,
        )
        return "lost"


class Spread(Victim):
    """A cluster of three masters with a replica each."""

    def __init__(self) -> None:
        super().__init__()
        self.group = self.stack.enter_context(Cluster())
        self.url = self.group.url()
        self.servers = list(self.group.nodes)
        for number, master in enumerate(self.group.nodes):
            config = (
                f"cluster-enabled yes\ncluster-port {free_port()}\n"
                "cluster-node-timeout 2000\ncluster-require-full-coverage no\n"
                f"cluster-config-file replica-{number}.conf\n"
            )
            replica = self.stack.enter_context(EmbeddedServer(self.group._binary, config=config))
            self.servers.append(replica)
            one, other = client(replica.port), client(master.port)
            bus = other.config_get("cluster-port")["cluster-port"]
            one.execute_command("CLUSTER MEET", LOOPBACK, master.port, bus)
            name = other.execute_command("CLUSTER MYID")
            wait_until(lambda one=one, name=name: follows(one, name))
            wait_until(lambda one=one: self.is_linked(one))
        wait_until(self.is_whole)

    def injuries(self) -> dict[str, Injury]:
        return {"kill a node": self.kill_node, "flush": self.flush}

    def clients(self) -> list[redis.Redis]:
        return [client(server.port) for server in self.servers if server.pid]

    def is_linked(self, one: redis.Redis) -> bool:
        return one.info("replication").get("master_link_status") == "up"

    def is_whole(self) -> bool:
        """Every master has a replica that could take its place."""
        roles = [client(server.port).info("replication") for server in self.servers]
        linked = [role for role in roles if role.get("master_link_status") == "up"]
        if len(linked) != 3 or sum(role.get("connected_slaves", 0) for role in roles) != 3:
            return False
        return all(
            "cluster_state:ok" in info(one) and "cluster_known_nodes:6" in info(one)
            for one in (redis.Redis(port=s.port, decode_responses=True) for s in self.servers)
        )

    def kill_node(self, seconds: float) -> str:
        masters = [
            s for s in self.servers if client(s.port).info("replication")["role"] == "master"
        ]
        killed = masters[0]
        left = [redis.Redis(port=s.port, decode_responses=True) for s in self.servers]
        left = [one for one, s in zip(left, self.servers, strict=True) if s is not killed]
        killed.kill()

        def is_taken() -> bool:
            return sum(one.info("replication")["role"] == "master" for one in left) >= 3

        wait_until(is_taken)
        killed.start()
        wait_until(self.is_whole)
        return "lost"


def follows(one: redis.Redis, name: Any) -> bool:
    try:
        one.execute_command("CLUSTER REPLICATE", name)
    except redis.ResponseError:
        return False  # it has not heard of that node yet
    return True


VICTIMS: dict[str, type[Victim]] = {"alone": Alone, "sentinel": Watched, "cluster": Spread}
