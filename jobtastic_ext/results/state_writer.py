"""Writes progress to an app's result backend: in bounded time, and never over a final result.

Celery's own clients go on trying for many seconds when the backend is down (20 s on Redis), or wait
for minutes when it is silent; and its check for a final result and the write are two steps.
"""

from __future__ import annotations

import logging
import os
import queue
import threading
import time
from collections.abc import Callable
from typing import Any, Protocol

from celery import Celery, states
from celery.app.task import Context, Task
from celery.backends.base import DisabledBackend

from ..errors import StoreError
from ..features.progress import Send
from ..resilience.circuit_breaker import CircuitBreaker
from ..settings import Settings

__all__ = ("PROGRESS", "BackendSender", "Writer", "open_writer")

logger = logging.getLogger("jobtastic_ext")

PROGRESS = "PROGRESS"

#: How often a write begins anew because the state was changed by somebody else.
ATTEMPTS = 3

#: Seconds before a backend that failed is tried again: first, and longest.
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 5.0

NAME = "the result backend"
MEANING = "tasks go on, and their progress is not shown until it is back"


class Writer(Protocol):
    """Gives each run what writes its states."""

    #: A write that comes late cannot replace a final result, so any thread may write at any time.
    atomic: bool

    def sender(self, task: Task, request: Context) -> Send | None:
        """Return what writes the states of this run; None if there is nowhere to write them."""

    def close(self) -> None:
        """Let go of threads and connections."""


def open_writer(app: Celery, settings: Settings, circuit: CircuitBreaker) -> Writer:
    """Return the writer for the app's result backend."""
    slow = BackendWriter(settings.store_timeout)
    if settings.results is None or not is_plain_redis(app.backend):
        return slow
    return RedisWriter(settings, circuit, slow)


def is_plain_redis(backend: Any) -> bool:
    """Whether it is Celery's own Redis backend, which keeps a result as it says."""
    try:
        from celery.backends.redis import RedisBackend
    except ImportError:
        return False
    return isinstance(backend, RedisBackend) and all(
        getattr(type(backend), name) is getattr(RedisBackend, name)
        for name in ("set", "_set", "get", "_store_result", "store_result", "get_key_for_task")
    )


class RedisWriter:
    """Replaces the state that is known by the next one, in one atomic command."""

    atomic = True

    def __init__(self, settings: Settings, circuit: CircuitBreaker, other: BackendWriter) -> None:
        from ..stores.redis_results import RedisResults  # the driver, only where Redis is used

        assert settings.results is not None
        self.results = RedisResults(
            settings.results, timeout=settings.store_timeout, **settings.results_options
        )
        self.circuit = circuit
        self._other = other

    def sender(self, task: Task, request: Context) -> Send | None:
        if task._backend is not None:
            return self._other.sender(task, request)
        return RedisSender(self, task, request)

    def close(self) -> None:
        self.results.close()
        self._other.close()


class RedisSender:
    """Writes the states of one run."""

    def __init__(self, writer: RedisWriter, task: Task, request: Context) -> None:
        self._writer, self._task, self._request = writer, task, request
        # Of the thread that writes first; both are asked for only by a task that reports.
        self._backend: Any = None
        self._key = b""
        #: What was written last, as bytes.
        self._known = b""

    def __call__(self, state: dict[str, Any]) -> bool:
        circuit = self._writer.circuit
        if circuit.is_open:
            return True
        if self._backend is None:
            self._backend = self._task.backend
            self._key = in_bytes(self._backend.get_key_for_task(self._request.id))
        meta = self._backend._get_result_meta(state, PROGRESS, None, self._request)
        meta["task_id"] = self._request.id
        value = in_bytes(self._backend.encode(meta))
        try:
            written = self._replace(value)
        except StoreError as error:
            circuit.failed(error)
            return True
        circuit.succeeded()
        return written

    def _replace(self, value: bytes) -> bool:
        expires = int(self._backend.expires or 0)
        for _ in range(ATTEMPTS):
            found = self._writer.results.replace(self._key, self._known, value, expires)
            if found is None:
                self._known = value
                return True
            if found and self._is_final(found):
                return False
            self._known = found  # nothing any more, STARTED, RETRY, or what the task has written
        return True

    def _is_final(self, found: bytes) -> bool:
        try:
            return self._backend.decode_result(found)["status"] in states.READY_STATES
        except Exception as error:  # noqa: BLE001 - whatever it is, it is not ours to replace
            logger.warning("the state of task %s cannot be read: %r", self._request.id, error)
            return True


def in_bytes(text: str | bytes) -> bytes:
    return text.encode() if isinstance(text, str) else text


class BackendWriter:
    """Writes through Celery, in a thread of its own, and waits for it no longer than `timeout`.

    While the backend is slow or down, states are dropped, and now and then one is tried without
    anybody waiting for it.
    """

    atomic = False

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._reset()

    def _reset(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._waiting = 0
        self._down = False
        self._pause, self._again = FIRST_PAUSE, 0.0

    def sender(self, task: Task, request: Context) -> Send | None:
        if isinstance(task.backend, DisabledBackend):
            return None
        return BackendSender(self, task, request)

    def do(self, work: Callable[[], None]) -> Job | None:
        """Have `work` done by the thread; return it if it may come late."""
        if self._pid != os.getpid():
            self._reset()  # the thread did not survive the fork
        if self._down and (self._waiting or time.monotonic() < self._again):
            return None
        job = Job(work)
        with self._lock:
            self._waiting += 1
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._work, args=(self._jobs,), name="jobtastic-writer", daemon=True
                )
                self._thread.start()
        self._jobs.put(job)
        if self._down:
            return job
        if job.done.wait(self._timeout):
            return None
        self._failed(f"no answer within {self._timeout:g} s")
        return job

    def close(self) -> None:
        self._jobs.put(None)

    def _work(self, jobs: queue.SimpleQueue[Job | None]) -> None:
        while (job := jobs.get()) is not None:
            try:
                job.work()
            except Exception as error:  # noqa: BLE001 - a progress report never fails a task
                self._failed(repr(error))
            else:
                self._succeeded()
            finally:
                job.done.set()
                with self._lock:
                    self._waiting -= 1

    def _failed(self, why: str) -> None:
        with self._lock:
            first, self._down = not self._down, True
            self._again = time.monotonic() + self._pause
            self._pause = min(self._pause * 2, LONGEST_PAUSE)
        if first:
            logger.warning("%s does not answer (%s); %s", NAME, why, MEANING)

    def _succeeded(self) -> None:
        if self._down:
            self._down, self._pause = False, FIRST_PAUSE
            logger.info("%s answers again", NAME)


class Job:
    """One write, and whether it is done."""

    def __init__(self, work: Callable[[], None]) -> None:
        self.work = work
        self.done = threading.Event()


class BackendSender:
    """Writes the states of one run, through Celery."""

    def __init__(self, writer: BackendWriter, task: Task, request: Context) -> None:
        self._writer, self._task, self._request = writer, task, request
        #: How the run ended, once it has.
        self._final: tuple[Any, str] | None = None
        self._late: Job | None = None

    def __call__(self, state: dict[str, Any]) -> bool:
        def work() -> None:
            if self._final is None:
                self._store(state, PROGRESS)
            if self._final is not None:
                self._store(*self._final)  # it may just have been overwritten

        late = self._writer.do(work)
        if late is not None:
            self._late = late
        return True

    def settle(self, result: Any, state: str) -> None:
        """The run has its final result.  A write that is late puts it back when it is through."""
        if self._late is not None and not self._late.done.is_set():
            self._final = result, state

    def _store(self, result: Any, state: str) -> None:
        # In the thread that writes: a backend is one object for each thread.
        self._task.backend.store_result(self._request.id, result, state, request=self._request)
