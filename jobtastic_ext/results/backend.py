"""Asks an app's result backend, and never waits longer than it may.

Celery's own reads and writes wait for minutes on a backend that is silent, and try again for many
seconds on one that refuses.  So there are backend objects of our own, made of the same settings,
that try once.  Those of Redis wait for their sockets only so long, and all threads share one; each
of the others is used by one thread of a small pool at a time, as its client may not be made for
more, and whoever asks waits only so long for that thread.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotInTime
from contextlib import suppress
from functools import cached_property
from math import ceil, isinf
from typing import Any, TypeVar

from billiard.exceptions import (
    SoftTimeLimitExceeded,
    Terminated,
    TimeLimitExceeded,
    WorkerLostError,
)
from celery import Celery, states
from celery.backends.base import Backend as CeleryBackend

from ..claims.protocol import Outcome
from ..claims.store import ResultPlace
from ..errors import ResultsUnavailable
from ..resilience.circuit_breaker import CircuitBreaker
from ..resilience.daemon_pool import DaemonPool
from ..resilience.per_process import per_process
from ..resilience.redaction import in_log
from . import kinds
from .payloads import FORGOTTEN, Payload, fetch

logger = logging.getLogger("jobtastic_ext")

T = TypeVar("T")
Question = Callable[[CeleryBackend], T]

#: Raised in the midst of whatever a worker's thread does; never to be kept from the task.
URGENT = (SoftTimeLimitExceeded, Terminated)

#: Threads for each app and purpose, where the driver keeps no time.
THREADS = 8

#: Seconds after its last use for which a thread keeps a connection open.
REST = 1.0


#: Seconds for which those who share a result are told that it was forgotten.
WORD = 3600


class Unreachable(ResultsUnavailable):
    """The backend cannot be reached; only this opens the circuit."""


class WrongResult(Exception):
    """The backend has answered with the result of another task."""


class Backend:
    """The result backend of an app, asked for one purpose; each question takes `timeout` seconds.

    Every method raises `ResultsUnavailable` for whatever the backend's driver raises, and at once
    during an outage.  `name` is what messages call it, and `consequence` what they say of an
    outage; after `limit` failures in a row there is one.  With `pooled`, threads of our own keep
    the time even where sockets do.
    """

    def __init__(
        self,
        app: Celery,
        timeout: float,
        *,
        name: str = "the result backend",
        consequence: str = "results are not read or written meanwhile",
        limit: int = 1,
        pooled: bool = False,
    ) -> None:
        self._app, self._timeout, self._pooled = app, timeout, pooled
        self._pool = per_process(lambda: DaemonPool(THREADS, idle=REST, at_end=self._rest))
        #: Objects that no thread uses at the moment; those in the second have nothing open.
        self._free = per_process(list[CeleryBackend])
        self._closed = per_process(list[CeleryBackend])
        self.breaker = CircuitBreaker(
            name, self._probe, refusal=ResultsUnavailable, limit=limit, consequence=consequence
        )

    # What is asked

    @cached_property
    def kind(self) -> type[CeleryBackend]:
        """The class of the app's backend."""
        return kinds.backend_class(self._app)

    @property
    def takes_outcomes(self) -> bool:
        """Whether others can read what is stored here for a task that no worker has run."""
        return kinds.holds_outcomes(self.kind)

    def outcome(self, task_id: str) -> Outcome | None:
        """Return how the task ended; None while it has not, or if the result is gone."""
        return outcome_of(
            self.ask(lambda backend: read(backend, task_id), f"cannot read {task_id}'s result")
        )

    def decoded(self, task_id: str, stored: bytes) -> Outcome | None:
        """Return the outcome that Celery has stored; None if nothing is, or nothing final."""
        if not stored:
            return None
        return outcome_of(
            self._here(
                lambda backend: checked(backend.decode_result(stored), task_id),
                f"cannot read {task_id}'s result",
            )
        )

    def place(self) -> ResultPlace | None:
        """Return where results are kept as Redis strings; None if they are not, or it is not known.

        As the backend has it that writes them: it reads its URL in a way of its own.
        """
        if not kinds.is_plain_redis(self.kind):
            return None
        try:
            key = self._here(lambda backend: backend.get_key_for_task("-"), "no key of a result")
        except ResultsUnavailable as error:
            logger.debug("results are not seen by the store: %s", error)
            return None
        head = bytes(key if isinstance(key, bytes) else key.encode()).removesuffix(b"-")
        where = self.shared.connparams
        if "path" in where:
            server = f"unix://{where['path']}"
        elif where.get("host"):
            tls = "SSL" in getattr(where.get("connection_class"), "__name__", "")
            server = f"{'rediss' if tls else 'redis'}://{where['host']}:{where.get('port', 6379)}"
        else:
            return None
        return ResultPlace(server, int(where.get("db") or 0), head)

    def read_many(
        self, ids: Sequence[str], *, most: int | None = None, timeout: float | None = None
    ) -> list[Payload]:
        """Return what is stored for each id; see `payloads.fetch`."""
        # Once one of them has been answered the backend is there, however long the others take.
        heard: list[Payload] = []
        return self.ask(
            lambda backend: fetch(backend, ids, most, heard),
            f"cannot read the state of {len(ids)} tasks",
            timeout,
            answered=lambda: bool(heard),
        )

    def store(self, task_id: str, value: Any, state: str, traceback: str | None = None) -> None:
        """Record how a task ended that no worker has run, so that nobody waits for it."""
        self.ask(
            lambda backend: backend.store_result(task_id, value, state, traceback),
            f"cannot store the result of {task_id}",
        )

    def keep(self, task_id: str, seconds: float) -> None:
        """Let a result live at least so long, where the backend can change its expiry."""
        if hasattr(self.kind, "get_key_for_task") and hasattr(self.kind, "expire"):
            self.ask(
                lambda backend: stretch(backend, task_id, seconds),
                f"cannot stretch the expiry of the result of {task_id}",
            )

    def leave_word(self, task_id: str) -> None:
        """Tell those who share a result that it was forgotten; for Celery it stays PENDING."""
        if hasattr(self.kind, "get_key_for_task"):
            self.ask(
                lambda backend: leave_word(backend, task_id),
                f"cannot leave word that the result of {task_id} was forgotten",
            )

    def pass_on(self, task_id: str, ids: Iterable[str]) -> None:
        """Give others the outcome of `task_id`, those that have none of their own."""
        outcome = self.outcome(task_id)
        if outcome is None:
            return
        for other in ids:
            if self.outcome(other) is None:
                self.store(other, outcome.value, outcome.meta["status"])

    # How it is asked

    def ask(
        self,
        question: Question[T],
        what: str,
        timeout: float | None = None,
        answered: Callable[[], bool] = lambda: False,
    ) -> T:
        """Return what `question(backend)` returns; `what` says in an error what was asked.

        A question that is `answered` in part when its time is over says nothing of the backend.
        """
        if self.breaker.is_open or not self.in_place:
            return self.attempt(lambda: self.wait(self.start(question), what, timeout, answered))
        return self.attempt(lambda: self._here(question, what))

    def attempt(self, asks: Callable[[], T]) -> T:
        """Return what `asks()` returns; refused during an outage, and may be the first sign."""
        return self.breaker.call(asks, Unreachable)

    @cached_property
    def in_place(self) -> bool:
        """Whether questions are asked in the thread that has them."""
        return not self._pooled and kinds.keeps_time(self.kind)

    def start(self, question: Question[T]) -> Future[T]:
        """Have a question asked by a thread of the pool."""
        self.kind  # noqa: B018 - its module is imported here, which is no wait for a server
        try:
            return self._pool().submit(lambda: self._use(question))
        except TimeoutError as error:
            raise Unreachable(f"{self.breaker.name} does not answer: {error}") from error

    def wait(
        self,
        future: Future[T],
        what: str,
        timeout: float | None = None,
        answered: Callable[[], bool] = lambda: False,
    ) -> T:
        """Return what a question that was started has brought.  One that is late goes on."""
        seconds = self._timeout if timeout is None else timeout
        try:
            error = future.exception(seconds)
        except NotInTime:
            future.cancel()
            late = ResultsUnavailable if answered() else Unreachable
            raise late(f"{what}: no answer within {seconds:g} s") from None
        if error is not None:
            raise wrapped(error, what) from error
        return future.result()

    def _here(self, question: Question[T], what: str) -> T:
        try:
            return question(self.shared)
        except URGENT:
            raise
        except Exception as error:
            raise wrapped(error, what) from error

    @cached_property
    def shared(self) -> CeleryBackend:
        """The one object of a backend that many threads may use at once."""
        return self._make()

    def _make(self) -> CeleryBackend:
        return kinds.hasten(self._app._get_backend(), self._timeout)

    def _use(self, question: Question[T]) -> T:
        """Ask, in a thread of the pool, with a backend object that no other uses meanwhile."""
        if kinds.is_shared(self.kind):
            return question(self.shared)
        while True:
            backend = popped(self._free())
            is_new = backend is None
            backend = backend or popped(self._closed()) or self._make()
            try:
                answer = question(backend)
            except BaseException as error:
                # An answer may still be under way; whoever asked next would take it for theirs.
                kinds.close(backend)
                close_django()
                if is_new or not kinds.is_outage(error) or isinstance(error, TimeoutError):
                    raise
                continue  # its connection was of old: the server may have been restarted
            self._free().append(backend)
            return answer

    def _rest(self) -> None:
        """A thread has ended, for want of work: what it would have used holds no connection."""
        close_django()
        backend = popped(self._free())
        if backend is not None:
            kinds.close(backend)
            self._closed().append(backend)

    def _probe(self) -> None:
        if self.in_place:
            self._here(lambda backend: read(backend, "jobtastic-probe"), "probe")
        else:
            self.wait(self.start(lambda backend: read(backend, "jobtastic-probe")), "probe")

    def close(self) -> None:
        """Stop asking whether the backend is back, and close what is open."""
        self.breaker.close()
        shared = self.__dict__.pop("shared", None)
        if shared is not None:
            kinds.close(shared)
        while (backend := popped(self._free())) is not None:
            kinds.close(backend)


def popped(objects: list[CeleryBackend]) -> CeleryBackend | None:
    """Take one of them; None if other threads have them all."""
    try:
        return objects.pop()
    except IndexError:
        return None


def outcome_of(meta: Mapping[str, Any]) -> Outcome | None:
    """Return how a task ended, from what the backend holds of it; None while it has not."""
    state, value = meta["status"], meta["result"]
    if state not in states.READY_STATES:
        return None
    failed = state != states.SUCCESS
    shareable = not failed or (
        state == states.FAILURE and isinstance(value, Exception) and not is_loss(value)
    )
    return Outcome(shareable, failed, value, meta)


def read(backend: CeleryBackend, task_id: str) -> Mapping[str, Any]:
    """Return what the backend holds of a task.  Raises `WrongResult` for what is another's."""
    # Not `AsyncResult`, whose cache would show a result that has been deleted, and not
    # `get_task_meta`, which retries for ever with result_backend_always_retry.
    return checked(backend._get_task_meta_for(task_id), task_id)


def checked(meta: Mapping[str, Any], task_id: str) -> Mapping[str, Any]:
    found = meta.get("task_id", task_id)
    if found != task_id:
        raise WrongResult(f"the backend answered with the result of {found}")
    return meta


def stretch(backend: CeleryBackend, task_id: str, seconds: float) -> None:
    expires = backend.expires
    if not expires or seconds <= expires:
        return
    key = backend.get_key_for_task(task_id)
    try:
        if not isinf(seconds):
            backend.expire(key, ceil(seconds))
        elif hasattr(backend.client, "persist"):
            backend.client.persist(key)
        else:
            backend.expire(key, 0)  # memcached: no expiry
    except NotImplementedError:
        return  # files, for example, live until somebody deletes them


def leave_word(backend: CeleryBackend, task_id: str) -> None:
    backend.store_result(task_id, None, states.PENDING, FORGOTTEN)
    with suppress(NotImplementedError):
        backend.expire(backend.get_key_for_task(task_id), WORD)


def wrapped(error: BaseException, what: str) -> ResultsUnavailable:
    if isinstance(error, WrongResult):
        logger.warning("%s: %s; it is not used", what, error)
    kind = Unreachable if kinds.is_outage(error) else ResultsUnavailable
    return kind(f"{what}: {in_log(error)}")


def is_loss(error: Exception) -> bool:
    """Whether a failure says something of the process, and nothing of the call."""
    return isinstance(error, WorkerLostError | TimeLimitExceeded)


def close_django() -> None:
    """Close what this thread, which is one of ours, has open of Django's databases."""
    # Only where the project has loaded it, and its settings.
    database: Any = sys.modules.get("django.db")
    conf: Any = sys.modules.get("django.conf")
    if database is not None and conf is not None and conf.settings.configured:
        with suppress(Exception):
            database.connections.close_all()
