"""Writes to a result backend that Celery drives: bounded, dropped while it is down, repaired."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery

from jobtastic_ext.results.backend import Backend as Results
from jobtastic_ext.results.state_writer import MEANING, NAME, BackendSender
from tests.servers import wait_until

#: Of a backend that is silent, and of one that answers, on a busy machine.
TIMEOUT, PATIENCE = 0.2, 60.0


class Backend:
    """Keeps what it is given, after it was let go on."""

    def __init__(self) -> None:
        self.state: tuple[Any, str] | None = None
        self.stored: list[str] = []
        self.free = threading.Event()
        self.free.set()
        self.error: Exception | None = None

    def store_result(self, task_id: str, result: Any, state: str, request: Any = None) -> None:
        self.free.wait(PATIENCE)
        if self.error is not None:
            raise self.error
        self.state = result, state
        self.stored.append(state)

    def _get_task_meta_for(self, task_id: str) -> dict[str, Any]:
        self.free.wait(PATIENCE)
        if self.error is not None:
            raise self.error
        return {"status": "PENDING", "result": None}


class Request:
    id = "1"


class FakeTask:
    _backend = None


opened: list[Results] = []


@pytest.fixture(autouse=True)
def _close() -> Iterator[None]:
    yield
    while opened:
        opened.pop().close()


class Writes(Results):
    """Those of an app whose backend is the fake."""

    def __init__(self, timeout: float = PATIENCE) -> None:
        app = Celery("writes", set_as_current=False, backend="file:///nowhere")
        super().__init__(app, timeout, name=NAME, consequence=MEANING, pooled=True)
        self.fake = Backend()
        opened.append(self)

    def _make(self) -> Any:
        return self.fake


def sender(writes: Writes) -> tuple[Backend, BackendSender]:
    return writes.fake, BackendSender(writes, FakeTask(), Request())  # type: ignore[arg-type]


def test_it_is_written_when_the_call_returns() -> None:
    backend, send = sender(Writes())
    assert send({"n": 1})
    assert backend.state == ({"n": 1}, "PROGRESS")


def test_a_silent_backend_costs_the_timeout_once(caplog: pytest.LogCaptureFixture) -> None:
    backend, send = sender(Writes(TIMEOUT))
    backend.free.clear()
    waits = []
    with caplog.at_level(logging.INFO, logger="jobtastic_ext"):
        for n in range(50):
            began = time.monotonic()
            assert send({"n": n})
            waits.append(time.monotonic() - began)
        assert waits[0] > TIMEOUT / 2
        assert sorted(waits)[25] < TIMEOUT / 2, waits  # a busy machine keeps some waiting
        assert max(waits) < TIMEOUT + 5
        backend.free.set()
        wait_until(lambda: "answers again" in caplog.text)
    send({"n": "last"})
    wait_until(lambda: backend.state == ({"n": "last"}, "PROGRESS"))
    assert [r.levelno for r in caplog.records] == [logging.WARNING, logging.INFO]


def test_a_backend_that_fails_is_tried_again_and_nobody_waits(
    caplog: pytest.LogCaptureFixture,
) -> None:
    backend, send = sender(Writes())
    backend.error = OSError("no")
    with caplog.at_level(logging.INFO, logger="jobtastic_ext"):
        for n in range(50):
            send({"n": n})
        backend.error = None
        wait_until(lambda: send({"n": "x"}) and backend.state is not None)
    assert [r.levelno for r in caplog.records] == [logging.WARNING, logging.INFO]


def test_a_write_that_is_late_puts_the_final_result_back() -> None:
    backend, send = sender(Writes(TIMEOUT))
    backend.free.clear()
    send({"n": 1})
    backend.state = "value", "SUCCESS"  # by Celery, over another connection
    send.settle("value", "SUCCESS")
    backend.free.set()
    wait_until(lambda: backend.stored)
    wait_until(lambda: backend.state == ("value", "SUCCESS"))


def test_a_write_in_time_leaves_the_final_result_alone() -> None:
    backend, send = sender(Writes())
    send({"n": 1})
    send.settle("value", "SUCCESS")
    assert backend.stored == ["PROGRESS"]
