"""Reads of the result backend that never take longer than they may.

Celery's own reads cannot be bounded from outside: on a Redis that stays silent one takes 120 s.
So each read is done by a thread of a small pool, and whoever asks waits for it only so long.  While
the backend is down, all but one question now and then are refused at once.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import TimeoutError as NotInTime
from typing import Any, TypeVar

from celery import Celery
from celery.backends.base import Backend, DisabledBackend

from ..errors import ConfigurationError, ResultsUnavailable
from .pool import Pool

__all__ = ("Reads", "reads_of")

logger = logging.getLogger("jobtastic_ext")

T = TypeVar("T")

#: The attribute of an app that holds its reads.
ATTRIBUTE = "_jobtastic_reads"

THREADS = 8

#: Seconds that a Redis may take to take a connection, or to answer, before a thread gives up.
SOCKET = 2.0

#: Failures in a row after which questions are refused, and seconds until one of them is let in.
LIMIT, PAUSE = 3, 0.5


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
        return self._states.get(pid) or self._states.setdefault(pid, State())

    def ask(self, question: Callable[[Backend], T], timeout: float) -> T:
        """Return what `question(backend)` returns, within `timeout` seconds.

        Raises `ResultsUnavailable` if the backend does not answer, and `ConfigurationError` if the
        app has none that can be asked.
        """
        state = self.state
        circuit = state.circuit
        circuit.admit()
        future = state.pool.submit(lambda: question(self.backend()))
        try:
            error = future.exception(timeout)
        except NotInTime:
            future.cancel()
            message = f"the result backend did not answer within {timeout:g} s"
            circuit.failed(message)
            raise ResultsUnavailable(f"{message}; check that it runs and can be reached") from None
        if isinstance(error, ConfigurationError):
            raise error
        if error is not None:
            circuit.failed(f"{type(error).__name__}: {error}")
            raise ResultsUnavailable(
                f"the result backend cannot be read: {error}; check that it runs and can be reached"
            ) from error
        circuit.succeeded()
        return future.result()

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
        name = type(backend).__name__
        if isinstance(backend, DisabledBackend) or name == "RPCBackend":
            raise ConfigurationError(
                f"the app {self._app.main!r} keeps no results that a page could ask for ({name}); "
                "set result_backend to redis:// or another store, and give the status view the "
                "app that the workers use"
            )
        if not isinstance(getattr(backend, "connparams", None), dict):
            return backend
        # Redis: one of our own, whose sockets give up, so that no thread hangs for two minutes.
        # The app's own timeouts stay as they are.
        own = self._app._get_backend()
        own.connparams.update(socket_timeout=SOCKET, socket_connect_timeout=SOCKET)
        with state.lock:
            if state.own is None:
                state.own = own
        return state.own


class State:
    """What one process has."""

    def __init__(self) -> None:
        self.pool = Pool(THREADS)
        self.circuit = Circuit()
        self.lock = threading.Lock()
        self.own: Backend | None = None


class Circuit:
    """Refuses questions while the backend is down, but for one now and then that finds out."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._failures = 0
        self._next = 0.0

    def admit(self) -> None:
        """Return if the backend may be asked; raise `ResultsUnavailable` if not."""
        if self._failures < LIMIT:
            return
        with self._lock:
            now = time.monotonic()
            if self._failures < LIMIT:
                return
            if now >= self._next:
                self._next = now + PAUSE
                return
        raise ResultsUnavailable("the result backend is not answering; it is asked again shortly")

    def failed(self, why: str) -> None:
        with self._lock:
            self._failures += 1
            self._next = time.monotonic() + PAUSE
            opens = self._failures == LIMIT
        if opens:
            logger.warning("the result backend does not answer status requests (%s)", why)

    def succeeded(self) -> None:
        if not self._failures:
            return
        with self._lock:
            was_open, self._failures = self._failures >= LIMIT, 0
        if was_open:
            logger.info("the result backend answers status requests again")


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
