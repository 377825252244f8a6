"""A report that reaches the result backend after the final result does not replace it."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from jobtastic_ext.runtime import runtime_of
from jobtastic_ext.testing.server import LOOPBACK
from tests.integration.conftest import wait_until
from tests.integration.steps import Steps, start_steps

__all__ = ("start_steps",)


class SlowLine:
    """Carries bytes to a server, and holds them back while it is `held`."""

    def __init__(self, port: int) -> None:
        self._server = port
        self._listener = socket.create_server((LOOPBACK, 0))
        self.port: int = self._listener.getsockname()[1]
        self._free = threading.Event()
        self._free.set()
        #: Bytes that came in while it was held.
        self.waiting = 0
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._start(self._accept)

    def _start(self, work: Any, *arguments: Any) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def hold(self) -> None:
        self._free.clear()

    def let_go(self) -> None:
        self._free.set()

    def close(self) -> None:
        self._free.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for one in self._sockets:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(5)
        for one in self._sockets:
            one.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            far = socket.create_connection((LOOPBACK, self._server))
            self._sockets += [near, far]
            self._start(self._carry, near, far)
            self._start(self._carry, far, near)

    def _carry(self, source: socket.socket, target: socket.socket) -> None:
        try:
            while data := source.recv(65_536):
                if not self._free.is_set():
                    self.waiting += len(data)
                self._free.wait()
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # the other side has hung up


@pytest.fixture
def line(redis_server: Any) -> Iterator[SlowLine]:
    line = SlowLine(redis_server.port)
    yield line
    line.close()


@pytest.fixture
def own(start_steps: Any, line: SlowLine, redis_server: Any) -> Steps:
    """A project whose reports go over the slow line, and whose results do not."""
    steps: Steps = start_steps()
    runtime = runtime_of(steps.app)
    assert runtime is not None
    runtime.settings = type(runtime.settings)(
        policy={},
        store="memory://",
        store_options={},
        results=f"redis://{LOOPBACK}:{line.port}/1",
    )
    return steps


@pytest.mark.parametrize("state", ["SUCCESS", "FAILURE", "REVOKED"])
def test_a_report_that_was_held_up_on_its_way(own: Steps, line: SlowLine, state: str) -> None:
    # Celery reads before it writes, and looks for SUCCESS alone: this would show PROGRESS for ever.
    runtime, task = runtime_of(own.app), own.task("plain")
    assert runtime is not None
    backend = own.app.backend
    task_id = uuid.uuid4().hex
    task.push_request(id=task_id, called_directly=False, is_eager=False, delivery_info={})
    run = runtime.reporter.open(task, task.request)
    task.pop_request()
    run.update(1, 10)
    assert backend._get_task_meta_for(task_id)["status"] == "PROGRESS"
    line.hold()
    time.sleep(0.3)
    run.update(2, 10)  # gives up after its timeout
    assert line.waiting
    value: Any = "value" if state == "SUCCESS" else ValueError("no")
    backend.store_result(task_id, value, state)
    line.let_go()
    wait_until(
        lambda: not runtime.reporter.writer.breaker.is_open
    )  # it is there, and what came before it
    assert backend._get_task_meta_for(task_id)["status"] == state
    time.sleep(0.3)
    run.update(3, 10)
    assert backend._get_task_meta_for(task_id)["status"] == state
    assert run.closed
