"""Reads of the result backend that never take longer than they may.

Celery's own reads cannot be bounded from outside: on a Redis that stays silent one takes 120 s.
So each read is done by a thread of a small pool, and whoever asks waits for it only so long.  While
the backend is down, questions are refused at once.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import TimeoutError as NotInTime
from typing import Any, TypeVar

from celery import Celery
from celery.backends.base import Backend

from ..errors import ConfigurationError, ResultsUnavailable
from ..resilience.circuit_breaker import CircuitBreaker
from ..resilience.daemon_pool import DaemonPool
from ..resilience.deadline import within
from ..results.backend import hasten, holds_outcomes

__all__ = ("Reads", "reads_of")

logger = logging.getLogger("jobtastic_ext")

T = TypeVar("T")

#: The attribute of an app that holds its reads.
ATTRIBUTE = "_jobtastic_reads"

THREADS = 8

#: Seconds that a Redis may take to take a connection, or to answer, before a thread gives up.
SOCKET = 2.0

#: Failures in a row after which questions are refused until the backend answers again.
LIMIT = 3


class Reads:
    """Reads from the result backend of one app, in threads of its own.

    May be used from many threads, and from a process forked after it was made.
    """

    def __init__(self, app: Celery) -> None:
        self._app = app
        self._said: set[str] = set()
        #: Neither threads nor sockets survive a fork.
        self._states: dict[int, State] = {}

    @property
    def state(self) -> State:
        pid = os.getpid()
        return self._states.get(pid) or self._states.setdefault(pid, State(self._probe))

    def ask(self, question: Callable[[Backend], T], timeout: float) -> T:
        """Return what `question(backend)` returns, within `timeout` seconds.

        Raises `ResultsUnavailable` if the backend does not answer, and `ConfigurationError` if the
        app has none that can be asked.
        """
        state = self.state
        circuit = state.circuit
        if circuit.is_open:
            raise ResultsUnavailable("the result backend is not answering; ask again soon")
        future = state.pool.submit(lambda: question(self.backend()))
        try:
            error = future.exception(timeout)
        except NotInTime:
            future.cancel()
            unavailable = ResultsUnavailable(
                f"the result backend did not answer within {timeout:g} s; "
                "check that it runs and can be reached"
            )
            circuit.failed(unavailable)
            raise unavailable from None
        if isinstance(error, ConfigurationError):
            raise error
        if error is not None:
            circuit.failed(error)
            raise ResultsUnavailable(
                f"the result backend cannot be read: {error}; check that it runs and can be reached"
            ) from error
        circuit.succeeded()
        return future.result()

    def _probe(self) -> None:
        within(SOCKET, lambda: fetch(self.backend(), ["jobtastic-probe"]), lambda _: None)

    def warn_once(self, message: str, error: Exception) -> None:
        """Log what is wrong with the app, once in the life of the process."""
        if message not in self._said:
            self._said.add(message)
            logger.warning(message, error)

    def payloads(self, ids: Sequence[str], timeout: float) -> list[Any]:
        """Return what is stored for each id: a payload, a decoded dict, or None if nothing is.

        One question of the backend, whatever the number, where it can be asked for many.
        """
        return self.ask(lambda backend: fetch(backend, ids), timeout)

    def backend(self) -> Backend:
        """Return the backend that the calling thread may ask.  Raises `ConfigurationError`."""
        state = self.state
        if state.own is not None:
            return state.own
        backend = self._app.backend
        if not holds_outcomes(backend):
            name = type(backend).__name__
            raise ConfigurationError(
                f"the app {self._app.main!r} keeps no results that a page could ask for ({name}); "
                "set result_backend to redis:// or another store, and give the status view the "
                "app that the workers use"
            )
        if not isinstance(getattr(backend, "connparams", None), dict):
            return backend
        # Redis: one of our own, whose sockets give up, so that no thread hangs for two minutes.
        # The app's own timeouts stay as they are.
        own = hasten(self._app._get_backend(), SOCKET)
        with state.lock:
            if state.own is None:
                state.own = own
        return state.own


class State:
    """What one process has."""

    def __init__(self, probe: Callable[[], object]) -> None:
        self.pool = DaemonPool(THREADS)
        self.circuit = CircuitBreaker(
            "the result backend, asked for the state of tasks,",
            probe,
            limit=LIMIT,
            consequence="pages get a 503 meanwhile",
        )
        self.lock = threading.Lock()
        self.own: Backend | None = None


def reads_of(app: Celery) -> Reads:
    """Return the app's reads, made when they are first used."""
    reads: Reads = vars(app).get(ATTRIBUTE) or vars(app).setdefault(ATTRIBUTE, Reads(app))
    return reads


def fetch(backend: Backend, ids: Sequence[str]) -> list[Any]:
    """Read what the backend holds for each id; payloads are left encoded where it keeps any."""
    if not hasattr(backend, "get_key_for_task"):
        return [backend._get_task_meta_for(task_id) for task_id in ids]
    keys = [backend.get_key_for_task(task_id) for task_id in ids]
    if len(keys) == 1:
        return [backend.get(keys[0])]
    try:
        found = backend.mget(keys)
    except NotImplementedError:
        return [backend.get(key) for key in keys]
    if hasattr(found, "items"):  # memcached's client answers with a dict
        by_key = {backend.key_t(key): value for key, value in found.items()}
        return [by_key.get(backend.key_t(key)) for key in keys]
    return list(found)
