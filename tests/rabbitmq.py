"""A real RabbitMQ of our own: free ports on loopback, its data in a temporary folder."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import pytest
from kombu import Connection

from tests.untried import PLACES, missing

__all__ = ("RabbitMQServer", "find_rabbitmq", "rabbitmq")

#: Seconds to wait for the first AMQP handshake.
PATIENCE = 60

PR_SET_PDEATHSIG = 1


def find_rabbitmq() -> str | None:
    """Return the path of the start script, or None if RabbitMQ is not installed.

    Debian's ``/usr/sbin/rabbitmq-server`` insists on the user ``rabbitmq`` and on its folders; the
    script that it wraps runs as anybody.
    """
    script = shutil.which("rabbitmq-server", path="/usr/lib/rabbitmq/bin")
    script = script or shutil.which("rabbitmq-server", path=PLACES)
    return script if script and shutil.which("epmd", path=PLACES) else None


def free_ports(count: int) -> list[int]:
    """Return `count` different ports that are free on loopback now."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


class RabbitMQServer:
    """One node and one port mapper (epmd), both our children.

    They get their own session, so that Ctrl-C reaches the tests and not the server; on Linux the
    kernel ends them with us, however we end.
    """

    def __init__(self) -> None:
        script = find_rabbitmq()
        if script is None:
            raise FileNotFoundError(
                "rabbitmq-server and epmd; on Debian: apt-get install rabbitmq-server"
            )
        self.script = script
        self.home = Path(tempfile.mkdtemp(prefix="jobtastic-rabbitmq-"))
        self.port = 0
        self.processes: list[subprocess.Popen[bytes]] = []

    @property
    def url(self) -> str:
        return f"amqp://guest:guest@127.0.0.1:{self.port}//"

    @property
    def pid(self) -> int:
        """Process id of the node."""
        return self.processes[-1].pid

    def start(self) -> None:
        """Start, and return when the node speaks AMQP; raise `RuntimeError` with its log if not."""
        try:
            # A port may be taken between our finding it free and the server's binding it.
            if not (self.try_to_start() or self.try_to_start()):
                raise RuntimeError(f"RabbitMQ did not start:\n{self.log()}")
        except BaseException:
            self.stop()
            raise

    def try_to_start(self) -> bool:
        self.kill()
        self.port, epmd_port, dist_port = free_ports(3)
        environment = self.environment(epmd_port, dist_port)
        self.spawn(["epmd", "-port", str(epmd_port), "-address", "127.0.0.1"], environment)
        self.spawn([self.script], environment)
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            if any(process.poll() is not None for process in self.processes):
                return False
            if self.answers():
                return True
            time.sleep(0.1)
        return False

    def answers(self) -> bool:
        try:
            with Connection(self.url, connect_timeout=5) as connection:
                connection.connect()
        except OSError:
            return False
        return True

    def environment(self, epmd_port: int, dist_port: int) -> dict[str, str]:
        """Return an environment that keeps away from the system's own RabbitMQ."""
        home = self.home
        home.mkdir(exist_ok=True)
        config, plugins, script = home / "rabbitmq.conf", home / "plugins", home / "env.conf"
        config.write_text(f"listeners.tcp.1 = 127.0.0.1:{self.port}\n")
        plugins.write_text("[].\n")
        script.write_text("")
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("RABBITMQ_", "ERL_"))}
        return inherited | {
            "PATH": os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin")),
            "HOME": str(home),  # where the Erlang cookie is written
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": str(epmd_port),
            "RABBITMQ_NODENAME": f"jobtastic-{self.port}@localhost",
            "RABBITMQ_DIST_PORT": str(dist_port),
            "RABBITMQ_CONF_ENV_FILE": str(script),
            "RABBITMQ_CONFIG_FILE": str(config),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(home / "advanced.config"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(plugins),
            "RABBITMQ_MNESIA_BASE": str(home / "mnesia"),
            "RABBITMQ_LOG_BASE": str(home / "log"),
            "RABBITMQ_PID_FILE": str(home / "pid"),
            # Makes the start script become the node, where it would else stay as its parent.
            "RABBITMQ_ALLOW_INPUT": "1",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": (
                "-noinput -start_epmd false +S 2:2 -kernel inet_dist_use_interface {127,0,0,1}"
            ),
        }

    def spawn(self, command: list[str], environment: dict[str, str]) -> None:
        with (self.home / "output.log").open("ab") as output:
            process = subprocess.Popen(
                command,
                env=environment,
                cwd=self.home,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                preexec_fn=die_with_parent if sys.platform == "linux" else None,
            )
        self.processes.append(process)

    def log(self) -> str:
        """Return the last lines that the node wrote."""
        files = [self.home / "output.log", *(self.home / "log").glob("*.log")]
        text = "\n".join(each.read_text(errors="replace") for each in files if each.exists())
        return "\n".join(text.splitlines()[-60:])

    def stop(self) -> None:
        """End the node, its helpers and epmd, and remove their folder.  May be repeated."""
        self.kill()
        shutil.rmtree(self.home, ignore_errors=True)

    def kill(self) -> None:
        # Nothing in it is worth a graceful end, which takes seconds.
        while self.processes:
            process = self.processes.pop()
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def __enter__(self) -> RabbitMQServer:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()


libc = ctypes.CDLL(None)


def die_with_parent() -> None:
    """Ask the kernel to kill this process when the one that started it ends."""
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


@pytest.fixture(scope="session")
def rabbitmq() -> Iterator[RabbitMQServer]:
    """A running RabbitMQ for the whole session; without one installed, skip, or fail in CI."""
    if find_rabbitmq() is None:
        missing("rabbitmq-server is not installed", "rabbitmq-server")
    with RabbitMQServer() as server:
        yield server
