"""A memcached for tests, on loopback, ended by pid."""

from __future__ import annotations

import socket
import subprocess
import time
from types import TracebackType

from jobtastic_ext.testing.server import LOOPBACK, free_port
from tests.servers import TIMEOUT, need


class Memcached:
    """A context manager; `options` are those of the program."""

    def __init__(self, *options: str) -> None:
        self.options = options
        self.port = free_port()

    def __enter__(self) -> Memcached:
        self.start()
        return self

    def start(self) -> None:
        """Start, and return when it takes connections."""
        command = [need("memcached"), "-l", LOOPBACK, "-p", str(self.port), "-U", "0", "-m", "64"]
        self.process = subprocess.Popen([*command, "-u", "nobody", *self.options])
        deadline = time.monotonic() + TIMEOUT
        while True:
            try:
                socket.create_connection((LOOPBACK, self.port), timeout=1).close()
                return
            except OSError:
                if time.monotonic() > deadline:
                    self.process.kill()
                    raise
                time.sleep(0.02)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.kill()

    def kill(self) -> None:
        """End the server at once, and with it all that it holds."""
        self.process.kill()
        self.process.wait()

    def url(self) -> str:
        return f"cache+memcached://{LOOPBACK}:{self.port}/"
