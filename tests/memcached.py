"""A memcached for tests, on loopback, ended by pid."""

from __future__ import annotations

import socket
import subprocess
import time
from types import TracebackType

from jobtastic_ext.testing.server import LOOPBACK, free_port
from tests.servers import need


class Memcached:
    """A context manager."""

    def __enter__(self) -> Memcached:
        self.port = free_port()
        command = [need("memcached"), "-l", LOOPBACK, "-p", str(self.port), "-U", "0", "-m", "64"]
        self.process = subprocess.Popen([*command, "-u", "nobody"])
        deadline = time.monotonic() + 10
        while True:
            try:
                socket.create_connection((LOOPBACK, self.port), timeout=1).close()
                return self
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
        self.process.kill()
        self.process.wait()

    def url(self) -> str:
        return f"cache+memcached://{LOOPBACK}:{self.port}/"
