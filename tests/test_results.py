"""How a result backend is asked: by one thread at a time, in bounded time, each answer its own."""

from __future__ import annotations

import pickle
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from celery import Celery

from jobtastic_ext.errors import ResultsUnavailable
from jobtastic_ext.results import backend as backend_module
from jobtastic_ext.results import kinds
from jobtastic_ext.results.backend import THREADS, Backend
from jobtastic_ext.results.payloads import Cut, cut, fetch
from tests.servers import wait_until

#: Of a backend that hangs, and of one that answers, on a busy machine.
TIMEOUT, PATIENCE = 0.3, 60.0


class Client:
    """A backend object that mixes answers up when two threads use it at once."""

    def __init__(self, answer: Callable[[str], Any]) -> None:
        self.answer, self.asked = answer, ""

    def _get_task_meta_for(self, task_id: str) -> dict[str, Any]:
        self.asked = task_id
        answer = self.answer(task_id)
        assert self.asked == task_id, "two threads at once"
        return {"status": "SUCCESS", "result": 1, "task_id": task_id, **(answer or {})}


class Asked(Backend):
    """The package's own, whose backend objects are such clients."""

    def __init__(self, answer: Callable[[str], Any], timeout: float) -> None:
        super().__init__(
            Celery("asked", set_as_current=False, backend="file:///nowhere"), timeout, limit=1
        )
        self.answer = answer
        self.clients: list[Client] = []

    @property
    def made(self) -> int:
        return len(self.clients)

    def _make(self) -> Any:
        self.clients.append(Client(self.answer))
        return self.clients[-1]


@pytest.fixture
def ask() -> Iterator[Callable[..., Asked]]:
    made: list[Asked] = []

    def make(answer: Callable[[str], Any], timeout: float = PATIENCE) -> Asked:
        made.append(Asked(answer, timeout))
        return made[-1]

    yield make
    for each in made:
        each.close()


def test_no_two_threads_use_one_object(ask: Any) -> None:
    results = ask(lambda task_id: time.sleep(0.001))
    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda n: results.outcome(str(n)), range(400)))
    assert all(outcome is not None and outcome.value == 1 for outcome in found)
    assert results.made <= THREADS


def test_the_result_of_another_is_not_handed_on(ask: Any, caplog: Any) -> None:
    results = ask(lambda task_id: {"task_id": "another"})
    with pytest.raises(ResultsUnavailable, match="another"):
        results.outcome("mine")
    assert "it is not used" in caplog.text
    assert not results.breaker.is_open
    with pytest.raises(ResultsUnavailable):
        results.outcome("mine")
    assert results.made == 2  # the first was not trusted any more


def test_an_old_connection_is_made_anew_once(ask: Any) -> None:
    """The server was restarted while nobody asked."""
    dead = [False]

    def answer(task_id: str) -> None:
        if dead[0]:
            dead[0] = False
            raise ConnectionError("closed by the server")

    results = ask(answer)
    assert results.outcome("a")
    dead[0] = True
    assert results.outcome("b")
    assert results.made == 2


@pytest.mark.parametrize(
    "error", [ValueError("no JSON"), PermissionError("no"), KeyError("status")]
)
def test_what_is_answered_is_no_outage(ask: Any, error: Exception) -> None:
    def answer(task_id: str) -> None:
        raise error

    results = ask(answer)
    with pytest.raises(ResultsUnavailable):
        results.outcome("a")
    assert results.breaker.is_open is False


def test_an_answer_that_is_long_is_no_outage(ask: Any) -> None:
    """Some of the values have come in time: the server is there."""
    results = ask(lambda task_id: time.sleep(0.5), timeout=2)
    with pytest.raises(ResultsUnavailable):
        results.read_many([str(n) for n in range(8)])
    assert not results.breaker.is_open


def test_a_server_that_hangs_holds_few_threads(ask: Any) -> None:
    gate = threading.Event()
    results = ask(lambda task_id: gate.wait(PATIENCE), TIMEOUT)
    before = threading.active_count()
    try:
        with ThreadPoolExecutor(30) as pool:
            answers = list(pool.map(lambda n: failure(results, n), range(60)))
        assert all(isinstance(one, ResultsUnavailable) for one in answers)
        assert threading.active_count() - before <= THREADS + 1  # and the one that probes
    finally:
        gate.set()


def failure(results: Asked, n: int) -> Exception | None:
    try:
        results.outcome(str(n))
    except ResultsUnavailable as error:
        return error
    return None


def test_a_value_that_cannot_be_read_concerns_its_id_alone() -> None:
    def answer(task_id: str) -> None:
        if task_id == "bad":
            raise UnicodeDecodeError("utf-8", b"\xff", 0, 1, "no text")

    good, bad = fetch(Client(answer), ["good", "bad"], None)  # type: ignore[arg-type]
    assert isinstance(good, dict)
    assert isinstance(bad, UnicodeDecodeError)


@pytest.mark.parametrize(
    ("head", "state"),
    [
        (b'{"status": "SUCCESS", "result": "xx', "SUCCESS"),
        (
            b"\x80\x05\x95\x00\x00\x00\x00\x00\x00\x00\x00}\x94(\x8c\x06status\x94\x8c\x07FAILURE\x94\x8c",
            "FAILURE",
        ),
        (pickle.dumps({"status": "RETRY", "result": 1}, 2), "RETRY"),
        (b"\x85\xa6status\xa8PROGRESS\xa6result", "PROGRESS"),
        (b'{"result": "\\"status\\": \\"SUCCESS\\"', ""),
        (b"x\x9c\xed\xc1", ""),
    ],
)
def test_the_state_at_the_beginning_of_a_value(head: bytes, state: str) -> None:
    assert cut(head, 7) == Cut(state, 7)


def test_threads_that_rest_keep_no_connection(ask: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend_module, "REST", 0.1)
    closed: list[Any] = []  # others too: what earlier tests left at rest is closed at this time
    monkeypatch.setattr(kinds, "close", closed.append)
    gate = threading.Barrier(4)
    results = ask(lambda task_id: gate.wait(PATIENCE) and None)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: failure(results, n), range(4)))
    assert results.made == 4
    wait_until(lambda: all(client in closed for client in results.clients))
    gate = threading.Barrier(1)
    assert failure(results, 5) is None
    assert results.made == 4  # they are used again


def test_a_file_that_is_being_written_is_not_there_yet() -> None:
    class Files:
        def get_key_for_task(self, task_id: str) -> str:
            return task_id

        def get(self, key: str) -> bytes:
            return b""

    assert fetch(Files(), ["a"], None) == [None]  # type: ignore[arg-type]
