"""A TCP proxy that passes, drops, delays or swallows what goes through it."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from types import TracebackType

from jobtastic_ext.demo.server import LOOPBACK


class Proxy:
    """``mode`` is ``pass``, ``drop`` (close everything), ``delay`` (0.3 s) or ``blackhole``."""

    DELAY = 0.3

    def __init__(self, target: int) -> None:
        self.target, self.mode = target, "pass"
        self._listener = socket.create_server((LOOPBACK, 0), backlog=100)
        self.port = int(self._listener.getsockname()[1])
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._lock = threading.Lock()

    def __enter__(self) -> Proxy:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.mode = "drop"
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._cut()

    def set(self, mode: str) -> None:
        self.mode = mode
        if mode == "drop":
            self._cut()

    def _cut(self) -> None:
        with self._lock:
            pairs, self._pairs = self._pairs, []
        for pair in pairs:
            for end in pair:
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
                end.close()

    def _accept(self) -> None:
        while True:
            try:
                client = self._listener.accept()[0]
            except OSError:
                return
            if self.mode == "drop":
                client.close()
                continue
            try:
                server = socket.create_connection((LOOPBACK, self.target), timeout=2)
            except OSError:
                client.close()
                continue
            server.settimeout(None)
            with self._lock:
                self._pairs.append((client, server))
            for one, other in ((client, server), (server, client)):
                threading.Thread(target=self._pump, args=(one, other), daemon=True).start()

    def _pump(self, one: socket.socket, other: socket.socket) -> None:
        try:
            while data := one.recv(65536):
                if self.mode == "delay":
                    time.sleep(self.DELAY)
                while self.mode == "blackhole":
                    time.sleep(0.02)
                other.sendall(data)
        except OSError:
            pass  # cut, by us or by either side
        for end in (one, other):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
