"""Real servers for tests: Redis or Valkey alone, under Sentinel, as a cluster; and a silent one."""

from __future__ import annotations

import atexit
import re
import shutil
import socket
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from types import TracebackType

import redis

from jobtastic_ext.testing.server import LOOPBACK, EmbeddedServer, free_port, server_binary
from tests.untried import missing as missing
from tests.untried import need as need

#: Seconds that what is certain to come may take on a busy machine.
TIMEOUT = 60.0

#: For a master: do not wait for more replicas before the first is served.
AT_ONCE = "repl-diskless-sync-delay 0"

#: They are bound, and never listen: where a port is only free, another test's server may come.
CLOSED = [socket.socket() for _ in range(3)]
for closed in CLOSED:
    closed.bind((LOOPBACK, 0))
    atexit.register(closed.close)


def closed_port(which: int = 0) -> int:
    """Return one of three ports that refuse whoever connects."""
    return int(CLOSED[which].getsockname()[1])


def installed() -> str:
    """A Redis if one is installed, else a Valkey."""
    return shutil.which("redis-server") or server_binary()


def wait_until(holds: Callable[[], object], timeout: float = TIMEOUT) -> None:
    """Return when `holds()` is true; a failure of the connection counts as not yet."""
    deadline = time.monotonic() + timeout
    while True:
        try:
            if holds():
                return
            problem: object = "it stayed false"
        except redis.RedisError as error:
            problem = error
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout:g} s in vain: {problem}")
        time.sleep(0.02)


class Group:
    """Several servers that end together."""

    def __init__(self) -> None:
        self._stack = ExitStack()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def start(self, server: EmbeddedServer) -> EmbeddedServer:
        return self._stack.enter_context(server)

    def client(self, server: EmbeddedServer) -> redis.Redis:
        client = redis.Redis(port=server.port, decode_responses=True, socket_timeout=5)
        self._stack.callback(client.close)
        return client


class Sentinel(Group):
    """A master, a replica, and sentinels that watch them under the name ``mymaster``."""

    NAME = "mymaster"

    def __init__(self, sentinels: int = 3, binary: str | None = None, away: float = 1.0) -> None:
        """`away`: seconds of silence after which another master is chosen."""
        super().__init__()
        self._binary = binary or server_binary()
        self._count, self._away = sentinels, away
        self.sentinels: list[EmbeddedServer] = []

    def __enter__(self) -> Sentinel:
        try:
            self.master = self.start(EmbeddedServer(self._binary, config=AT_ONCE))
            self.replica = self.start(
                EmbeddedServer(
                    self._binary, config=f"replicaof {LOOPBACK} {self.master.port}\n{AT_ONCE}"
                )
            )
            name, quorum = self.NAME, self._count // 2 + 1
            config = (
                f"sentinel monitor {name} {LOOPBACK} {self.master.port} {quorum}\n"
                f"sentinel down-after-milliseconds {name} {1000 * self._away:.0f}\n"
                f"sentinel failover-timeout {name} 3000\n"
            )
            for _ in range(self._count):
                self.sentinels.append(
                    self.start(
                        EmbeddedServer(self._binary, config=config, arguments=["--sentinel"])
                    )
                )
            replica = self.client(self.replica)
            wait_until(lambda: replica.info("replication")["master_link_status"] == "up")
            for server in self.sentinels:
                client = self.client(server)
                wait_until(lambda client=client: self._knows_all(client))
        except BaseException:
            self._stack.close()
            raise
        return self

    def _knows_all(self, client: redis.Redis) -> bool:
        state = client.execute_command("SENTINEL", "MASTER", self.NAME)
        if isinstance(state, list):
            state = dict(zip(state[::2], state[1::2], strict=True))
        others, replicas = int(state["num-other-sentinels"]), int(state["num-slaves"])
        return others == self._count - 1 and replicas == 1

    def url(self, db: int = 0) -> str:
        hosts = ";".join(f"sentinel://{LOOPBACK}:{s.port}/{db}" for s in self.sentinels)
        return f"{hosts}?master_name={self.NAME}"


class Cluster(Group):
    """Three masters that share the slots."""

    def __init__(self, masters: int = 3, binary: str | None = None) -> None:
        super().__init__()
        self._binary = binary or server_binary()
        self._count = masters
        self.nodes: list[EmbeddedServer] = []

    def __enter__(self) -> Cluster:
        try:
            for _ in range(self._count):
                config = (
                    f"cluster-enabled yes\ncluster-port {free_port()}\n"
                    "cluster-node-timeout 15000\ncluster-require-full-coverage no\n"
                )
                self.nodes.append(self.start(EmbeddedServer(self._binary, config=config)))
            self._join()
        except BaseException:
            self._stack.close()
            raise
        return self

    def _join(self) -> None:
        clients = [self.client(node) for node in self.nodes]
        edges = [n * 16384 // self._count for n in range(self._count + 1)]
        for n, client in enumerate(clients):
            client.execute_command("CLUSTER ADDSLOTSRANGE", edges[n], edges[n + 1] - 1)
            client.execute_command("CLUSTER SET-CONFIG-EPOCH", n + 1)
        for node in self.nodes[1:]:
            bus = self.client(node).config_get("cluster-port")["cluster-port"]
            clients[0].execute_command("CLUSTER MEET", LOOPBACK, node.port, bus)
        for client in clients:
            wait_until(
                lambda client=client: (
                    "cluster_state:ok" in info(client)
                    and "cluster_slots_ok:16384" in info(client)
                    and f"cluster_known_nodes:{self._count}" in info(client)
                )
            )

    def url(self) -> str:
        return "redis+cluster://" + ",".join(f"{LOOPBACK}:{node.port}" for node in self.nodes)


def info(client: redis.Redis) -> str:
    answer = client.execute_command("CLUSTER INFO")
    if isinstance(answer, dict):
        return "\n".join(f"{name}:{value}" for name, value in answer.items())
    return str(answer)


class SilentServer:
    """Accepts connections and never answers.  With `accepting` false, it does not even accept."""

    def __init__(self, *, accepting: bool = True) -> None:
        self._listener = socket.create_server((LOOPBACK, 0), backlog=0 if not accepting else 100)
        self.port: int = self._listener.getsockname()[1]
        self._accepting = accepting
        self._taken: list[socket.socket] = []

    def __enter__(self) -> SilentServer:
        if self._accepting:
            self._thread = threading.Thread(target=self._accept, daemon=True)
            self._thread.start()
        else:
            # A full queue of the kernel drops what comes next: as if the host were gone.
            for _ in range(2):
                filler = socket.socket()
                filler.setblocking(False)
                filler.connect_ex((LOOPBACK, self.port))
                self._taken.append(filler)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # Closing alone does not wake a thread that waits in accept().
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        if self._accepting:
            self._thread.join(5)
        for connection in self._taken:
            connection.close()

    def _accept(self) -> None:
        while True:
            try:
                self._taken.append(self._listener.accept()[0])
            except OSError:
                return

    def url(self, db: int = 0) -> str:
        return f"redis://{LOOPBACK}:{self.port}/{db}"


class Proxy:
    """Stands before a server, and can refuse, stay silent, or answer late, from one call on."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._lock = threading.Lock()
        self._pairs: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._listener: socket.socket | None = None
        self._delay = 0.0
        self._silent = threading.Event()
        self._ended = threading.Event()
        self.port = free_port()

    def __enter__(self) -> Proxy:
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self.refuse()
        for thread in self._threads:
            thread.join(10)

    def open(self) -> None:
        """Let everything through."""
        self._delay = 0.0
        self._silent.clear()
        if self._listener is None:
            self._listener = socket.create_server((LOOPBACK, self.port), backlog=200)
            self._start(self._accept, self._listener)

    def refuse(self) -> None:
        """Close every connection, and accept no more."""
        with self._lock:
            listener, self._listener = self._listener, None
            pairs, self._pairs = self._pairs, []
        if listener is not None:
            listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        for end in pairs:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def be_silent(self) -> None:
        """Accept, and let nothing through."""
        self._silent.set()

    def be_slow(self, seconds: float) -> None:
        """Let answers through so much later."""
        self._delay = seconds

    def url(self, db: int = 0) -> str:
        return f"redis://{LOOPBACK}:{self.port}/{db}"

    def passes(
        self, source: socket.socket, sink: socket.socket, data: bytes, answers: bool
    ) -> bool:
        """Whether `data` is let through; if not, its connection is lost."""
        return True

    def _start(self, function: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=function, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                near = listener.accept()[0]
            except OSError:
                return
            try:
                far = socket.create_connection((LOOPBACK, self._target), timeout=10)
            except OSError:
                near.close()  # the server itself is down
                continue
            far.settimeout(None)
            with self._lock:
                accepts = self._listener is listener
                self._pairs += [near, far] if accepts else []
            if not accepts:  # it came while all others were closed
                near.close()
                far.close()
                return
            self._start(self._pump, near, far, False)
            self._start(self._pump, far, near, True)

    def _pump(self, source: socket.socket, sink: socket.socket, answers: bool) -> None:
        try:
            while data := source.recv(65536):
                if not self.passes(source, sink, data, answers):
                    break
                while self._silent.is_set() and not self._ended.is_set():
                    time.sleep(0.01)
                if answers and self._delay:
                    self._ended.wait(self._delay)
                sink.sendall(data)
        except OSError:
            pass
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


class Cutter(Proxy):
    """Loses connections on which something is written that `said` finds in what is sent."""

    def __init__(self, port: int, said: re.Pattern[bytes]) -> None:
        super().__init__(port)
        self._said = said
        self._countdown, self._every, self._done = -1, 0, True
        self._doomed: set[socket.socket] = set()
        #: How many were lost.
        self.cuts = 0

    def cut(self, after: int, *, done: bool, every: int = 0) -> None:
        """Lose a connection after so many writes, before or after the server has `done` it.

        And again after `every` further ones.
        """
        self._countdown, self._every, self._done = after, every, done

    def passes(
        self, source: socket.socket, sink: socket.socket, data: bytes, answers: bool
    ) -> bool:
        with self._lock:
            if answers:
                return source not in self._doomed
            if self._said.search(data):
                self._countdown -= 1
                if self._countdown == -1:
                    self.cuts += 1
                    self._countdown = self._every - 1 if self._every else -2
                    if not self._done:
                        return False
                    self._doomed.add(sink)
            return True
