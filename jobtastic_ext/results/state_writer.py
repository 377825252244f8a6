"""Writes progress to a result backend that Celery drives: bounded, and dropped while it is down."""

from __future__ import annotations

import logging
from concurrent.futures import Future
from typing import Any, Protocol

from celery.app.task import Context, Task
from celery.backends.base import Backend as CeleryBackend
from celery.backends.base import DisabledBackend

from ..errors import ResultsUnavailable
from .backend import Backend

logger = logging.getLogger("jobtastic_ext")

PROGRESS = "PROGRESS"

NAME = "the result backend"
MEANING = "tasks go on, and their progress is not shown until it is back"


class Sender(Protocol):
    """Writes the states of one run."""

    def __call__(self, state: dict[str, Any]) -> bool:
        """Write a state; False if the run has a final result already."""

    def settle(self, result: Any, state: str) -> None:
        """The run has its final result: see that no late state replaces it."""


class Writer(Protocol):
    """Gives each run what writes its states."""

    #: A write that comes late cannot replace a final result, so any thread may write at any time.
    @property
    def atomic(self) -> bool: ...

    def sender(self, task: Task, request: Context) -> Sender | None:
        """Return what writes the states of this run; None if there is nowhere to write them."""

    def close(self) -> None:
        """Let go of what is its own."""


class BackendWriter:
    """Writes through Celery.  While the backend is slow or down, states are dropped."""

    atomic = False

    def __init__(self, results: Backend) -> None:
        self.results = results

    def sender(self, task: Task, request: Context) -> Sender | None:
        own = task._backend
        if issubclass(self.results.kind if own is None else type(own), DisabledBackend):
            return None
        return BackendSender(self.results, task, request)

    def close(self) -> None:
        """The backend is closed by those who have handed it in."""


class BackendSender:
    """Writes the states of one run, through Celery."""

    def __init__(self, results: Backend, task: Task, request: Context) -> None:
        self._results, self._task, self._request = results, task, request
        #: How the run ended, once it has.
        self._final: tuple[Any, str] | None = None
        #: Writes that were given up, and may yet be carried out.
        self._late: list[Future[None]] = []

    def __call__(self, state: dict[str, Any]) -> bool:
        def work(backend: CeleryBackend) -> None:
            if self._final is None:
                self._store(backend, state, PROGRESS)
            if self._final is not None:
                self._store(backend, *self._final)  # it may just have been overwritten

        def write() -> None:
            future = self._results.start(work)
            try:
                self._results.wait(future, f"cannot write the progress of {self._request.id}")
            finally:
                self._late = [one for one in [*self._late, future] if not one.done()]

        try:
            self._results.attempt(write)
        except ResultsUnavailable as error:
            logger.debug("%s", error)
        return True

    def settle(self, result: Any, state: str) -> None:
        """The run has its final result.  A write that is late puts it back when it is through."""
        if not all(one.done() for one in self._late):
            self._final = result, state

    def _store(self, backend: CeleryBackend, result: Any, state: str) -> None:
        own = self._task._backend
        backend = backend if own is None else own
        backend.store_result(self._request.id, result, state, request=self._request)
