"""Publishes within a deadline, on connections of its own, so that no worker's socket is changed.

What bounds a publish: on Redis `socket_timeout` together with no retries, on AMQP `read_timeout`
and a publisher confirm with a timeout (without confirms a warm connection to a stopped RabbitMQ
takes every message, and nobody knows).  A thread would bound every transport, but one for each
publish costs four times as much as the publish, and one for all makes callers wait for one another;
so a thread is used only to connect, and for transports whose sockets take no timeout.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable
from contextvars import copy_context
from functools import cached_property
from typing import Any, TypeVar

from celery import Celery
from celery._state import _task_stack
from kombu.connection import Connection
from kombu.exceptions import EncodeError, OperationalError

from .resilience.circuit_breaker import CircuitBreaker
from .resilience.deadline import within

__all__ = ("Broker", "OperationalError")

#: Seconds after which an idle connection is not trusted: a firewall may have dropped it.
MAX_IDLE = 120.0

#: Seconds between two attempts to connect to a broker that refuses.
PAUSE = 0.1

#: Transports that keep the time themselves once their sockets are told to, or that have none.
PROMPT = (
    "kombu.transport.redis:Transport",
    "kombu.transport.pyamqp:Transport",
    "kombu.transport.pyamqp:SSLTransport",
    "kombu.transport.memory:Transport",
    "kombu.transport.filesystem:Transport",
)

T = TypeVar("T")
Send = Callable[[Any], T]


class Line:
    """A connection with its producer."""

    def __init__(self, connection: Connection, producer: Any, confirms: bool) -> None:
        self.connection, self.producer, self.confirms = connection, producer, confirms
        self.errors = (
            OperationalError,
            TimeoutError,
            *connection.connection_errors,
            *connection.channel_errors,
        )
        self.used = time.monotonic()

    def drop(self) -> None:
        """Close without a word to the server, which may not answer."""
        raw: Any = getattr(self.connection, "_connection", None)
        with contextlib.suppress(Exception):
            if hasattr(raw, "collect"):
                raw.collect()  # AMQP: to say goodbye is to wait for an answer
            self.connection.release()  # type: ignore[no-untyped-call]


def bounded(producer: type[Any], confirm_timeout: float | None) -> type[Any]:
    """Return a class of producers that neither retry nor wait for ever."""

    class BoundedProducer(producer):  # type: ignore[misc]
        def publish(self, *args: Any, **options: Any) -> Any:
            options.update(retry=False, retry_policy=None)
            if confirm_timeout is not None:
                options.update(timeout=confirm_timeout, confirm_timeout=confirm_timeout)
            return super().publish(*args, **options)

    return BoundedProducer


class Broker:
    """The broker of one app, as one process sees it.

    In seconds: `timeout` bounds each wait for a socket, `longest` the way to a new connection.
    """

    def __init__(self, app: Celery, timeout: float, longest: float) -> None:
        self._app, self._timeout, self._longest = app, timeout, longest
        self._idle: list[Line] = []
        self._pid, self._closed = os.getpid(), False
        self.circuit = CircuitBreaker(
            "the broker",
            self._probe,
            consequence="calls end as each task's on_broker_error says",
        )
        self._last_error: BaseException | None = None

    def publish(self, send: Send[T], until: float, *, certain: bool) -> T:
        """Return what `send(producer)` returns, by `until` (`time.monotonic`) at the latest.

        To be `certain` an AMQP broker is asked to confirm, which takes it a round trip.

        Raises `kombu.exceptions.OperationalError` for whatever concerns the broker, and what
        `send` raises for everything else, such as arguments that cannot be encoded.
        """
        if self.circuit.is_open:
            raise OperationalError(
                f"the broker is not answering ({self._last_error}); it is asked again shortly"
            )
        confirms = certain and self.kind == "amqp"
        line, is_new, handled = self._take(confirms), False, sys.exc_info()[1]
        while True:
            if line is None:
                line, is_new = self._connect(until, confirms), True
            try:
                result = self._send(line, send, until)
            except EncodeError:
                self._give_back(line)
                raise
            except line.errors as error:
                line.drop()
                if not is_new and is_reset(error, handled) and time.monotonic() < until:
                    self._forget_idle()  # the server was restarted: ask it anew, once
                    line = None
                    continue
                raise self._failed(error, line) from error
            except BaseException:
                line.drop()
                raise
            self._give_back(line)
            self.circuit.succeeded()
            return result

    def close(self) -> None:
        """Close what is open."""
        self._closed = True
        self.circuit.close()
        self._forget_idle()

    def _send(self, line: Line, send: Send[T], until: float) -> T:
        if transport_name(line.connection) in PROMPT:
            return send(line.producer)
        work = carried(self._app, lambda: send(line.producer))
        return within(until - time.monotonic(), work, lambda _: line.drop())

    def _connect(self, until: float, confirms: bool) -> Line:
        """Connect in a thread: to look a name up, or to shake hands, has no timeout of its own.

        A broker that refuses may be restarting: it is asked again until the deadline.
        """
        while True:
            left = until - time.monotonic()
            try:
                return within(left, lambda: self._open(confirms), self._give_back)
            except Exception as error:
                if not is_reset(error) or time.monotonic() + PAUSE > until:
                    raise self._failed(error) from error
            time.sleep(PAUSE)

    def _open(self, confirms: bool = False) -> Line:
        # Of several hosts each has its share of the time.
        share = min(self._timeout, 0.9 * self._longest / self._hosts)
        connection = self._app.connection_for_write(
            connect_timeout=share, transport_options=self._options(share, confirms)
        )
        connection.ensure_connection(
            max_retries=max(1, len(connection.alt)),
            interval_start=0,
            interval_step=0,
            interval_max=0,
            timeout=self._longest,
        )
        producer = self._producers[confirms](connection, auto_declare=False)
        return Line(connection, producer, confirms)

    @cached_property
    def _hosts(self) -> int:
        return max(1, len(self._app.connection_for_write().alt))

    @cached_property
    def kind(self) -> str:
        """What kind of broker it is: ``redis``, ``amqp`` and so on."""
        return str(self._app.connection_for_write().transport.driver_type)

    @cached_property
    def _producers(self) -> dict[bool, type[Any]]:
        producer = self._app.amqp.Producer
        return {False: bounded(producer, None), True: bounded(producer, self._timeout)}

    def _options(self, timeout: float, confirms: bool) -> dict[str, Any]:
        given = self._app.conf.broker_transport_options or {}
        if self.kind == "redis":
            bounds = {"socket_timeout": timeout, "socket_connect_timeout": timeout}
            options: dict[str, Any] = {**bounds, "retry_on_timeout": False}
            if "master_name" in given:
                options["sentinel_kwargs"] = {**(given.get("sentinel_kwargs") or {}), **bounds}
            return options
        if self.kind == "amqp":
            bounds = {"read_timeout": timeout, "write_timeout": timeout}
            return {**bounds, "confirm_publish": given.get("confirm_publish", confirms)}
        return {}

    def _take(self, confirms: bool) -> Line | None:
        if self._pid != os.getpid():
            self._pid, self._idle = os.getpid(), []  # the sockets are the parent's
        for line in reversed(tuple(self._idle)):
            if line.confirms is not confirms:
                continue
            try:
                self._idle.remove(line)
            except ValueError:
                continue  # another thread has it
            if time.monotonic() - line.used < MAX_IDLE:
                return line
            line.drop()
        return None

    def _give_back(self, line: Line) -> None:
        line.used = time.monotonic()
        if len(self._idle) < (self._app.conf.broker_pool_limit or 0) and not self._closed:
            self._idle.append(line)
        else:
            line.drop()

    def _forget_idle(self) -> None:
        while self._idle:
            self._idle.pop().drop()

    def _failed(self, error: BaseException, line: Line | None = None) -> OperationalError:
        if line is None or not is_refusal(error, line.connection):
            self._last_error = error
            self._forget_idle()
            self.circuit.failed(error)
        if isinstance(error, OperationalError) and str(error):
            return error
        why = error.__cause__ or error  # kombu's error for a refused message says nothing
        return OperationalError(f"the broker did not take the message: {why!r}")

    def _probe(self) -> None:
        self._give_back(within(2 * self._longest, self._open, self._give_back))


def carried(app: Celery, function: Callable[[], T]) -> Callable[[], T]:
    """Return `function`, to be called in another thread as if in this one.

    With its context variables, its running task (whose id the message names as its parent), and
    its result backend: Celery would make a new one, with connections of its own, in each thread.
    """
    context, backend, task = copy_context(), app.backend, _task_stack.top
    request = task.request_stack.top if task is not None else None

    def call() -> T:
        app._backend = backend
        if task is None:
            return context.run(function)
        _task_stack.push(task)
        task.request_stack.push(request)
        try:
            return context.run(function)
        finally:
            task.request_stack.pop()
            _task_stack.pop()

    return call


def is_reset(error: BaseException, handled: BaseException | None = None) -> bool:
    """Whether the server has refused or closed a connection, rather than stayed silent.

    `handled` is what the caller was handling already: Python hangs it on every new error.
    """
    seen = {id(handled)}
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        if isinstance(cause, TimeoutError) or "timeout" in type(cause).__name__.lower():
            return False
        seen.add(id(cause))
        cause = cause.__cause__ or cause.__context__
    return True


def is_refusal(error: BaseException, connection: Connection) -> bool:
    """Whether the broker answered, and refused this message: that says nothing of the next one."""
    nacked = type(error.__cause__).__name__ == "MessageNacked"  # a full queue, for example
    return nacked or isinstance(error, connection.channel_errors)


def transport_name(connection: Connection) -> str:
    transport = type(connection.transport)
    return f"{transport.__module__}:{transport.__qualname__}"
