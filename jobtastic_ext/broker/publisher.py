"""Publishes within a deadline, on connections of its own, so that no worker's socket is changed.

What bounds a publish: on Redis `socket_timeout` together with no retries, on AMQP `read_timeout`
and a publisher confirm with a timeout (without confirms a warm connection to a stopped RabbitMQ
takes every message, and nobody knows).  A thread would bound every transport, but one for each
publish costs four times as much as the publish, and one for all makes callers wait for one another;
so a thread is used only to connect, and for transports whose sockets take no timeout.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from contextvars import copy_context
from functools import cached_property
from math import inf
from typing import Any, TypeVar

from celery import Celery
from celery._state import _task_stack
from kombu import pools
from kombu.connection import Connection
from kombu.exceptions import EncodeError, OperationalError

from ..resilience.circuit_breaker import CircuitBreaker
from ..resilience.deadline import within
from ..resilience.per_process import per_process
from ..resilience.redaction import beneath, kind
from .connection_pool import ConnectionPool, ConnectTimeout, Line, PoolExhausted

#: What a caller is told.
NOT_TAKEN = "the broker did not take the message"

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
        self._app, self.timeout, self._longest = app, timeout, longest
        self._pool = per_process(self._new_pool)
        #: Celery's own pool as this process knows it; see `leave_to_the_parent`.
        self._celerys: tuple[int, Any] = os.getpid(), None
        #: Of forked parents: to be collected might say something on a socket that is theirs.
        self._inherited: list[Any] = []
        self.circuit = CircuitBreaker(
            "the broker",
            self._probe,
            consequence="calls with a fallback take it meanwhile",
        )
        #: When it was first too late to connect, and nobody has since (`time.monotonic`).
        self._late_since = inf

    def publish(self, send: Send[T], until: float, *, certain: bool) -> T:
        """Return what `send(producer)` returns, by `until` (`time.monotonic`) at the latest.

        To be `certain` an AMQP broker is asked to confirm, which takes it a round trip.

        Raises `kombu.exceptions.OperationalError` for whatever concerns the broker, and what
        `send` raises for everything else, such as arguments that cannot be encoded.
        """
        began, confirms, handled = time.monotonic(), certain and self.kind == "amqp", handling()
        while True:
            pool, line = self._pool(), self._take(confirms, until, began)
            try:
                result = self._send(line, send, until)
            except EncodeError:
                pool.give_back(line)
                raise
            except line.errors as error:
                pool.drop(line)
                if not line.is_new and is_reset(error, handled) and time.monotonic() < until:
                    pool.drop_idle()  # the server was restarted: ask it anew
                    continue
                raise self._failed(error, line) from error
            except BaseException:
                pool.drop(line)
                raise
            pool.give_back(line)
            self._late_since = inf
            self.circuit.succeeded()
            return result

    def leave_to_the_parent(self) -> None:
        """Let go of the connections in Celery's own pool that a forked parent has opened.

        Celery does it in its workers' children.  A web server that forks after a first call (uWSGI,
        gunicorn with `--preload`) leaves both sides writing on one socket.
        """
        pid, seen = self._celerys
        now = os.getpid()
        if pid != now and seen is not None and seen is self._app._pool:
            groups = (pools.connections, pools.producers)
            self._inherited.append([seen, self._app.amqp._producer_pool, *map(dict, groups)])
            for group in groups:
                dict.clear(group)
            self._app._pool = self._app.amqp._producer_pool = None
        self._celerys = now, self._app.pool

    def close(self) -> None:
        """Close what is open."""
        self.circuit.close()
        self._pool().close()

    def _new_pool(self) -> ConnectionPool:
        return ConnectionPool(self._open, self._app.conf.broker_pool_limit or 0, is_reset)

    def _take(self, confirms: bool, until: float, began: float) -> Line:
        """Return a connection; a broker that refuses may be restarting, and is asked again."""
        if self.circuit.is_open:
            raise OperationalError(f"{NOT_TAKEN}; it is asked again shortly")
        try:
            return self._pool().take(confirms, until, lambda: self.circuit.is_open)
        except PoolExhausted as error:
            raise not_taken(error) from error
        except ConnectTimeout as error:
            if self._late_since > began:  # a slow name, once, is no outage
                self._late_since = min(self._late_since, time.monotonic())
                raise not_taken(error) from error
            raise self._failed(error) from error
        except Exception as error:
            raise self._failed(error) from error

    def _send(self, line: Line, send: Send[T], until: float) -> T:
        if transport_name(line.connection) in PROMPT:
            return send(line.producer)
        work = carried(self._app, lambda: send(line.producer))
        return within(until - time.monotonic(), work, lambda _: line.close())

    def _open(self, confirms: bool = False) -> Line:
        # Of several hosts each has its share of the time.
        share = min(self.timeout, 0.9 * self._longest / self._hosts)
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
        return {False: bounded(producer, None), True: bounded(producer, self.timeout)}

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

    def _failed(self, error: BaseException, line: Line | None = None) -> OperationalError:
        if line is None or not is_refusal(error, line.connection):
            self._pool().drop_idle()
            self.circuit.failed(error)
            self._pool().wake()
        return not_taken(error)

    def _probe(self) -> None:
        pool = self._pool()
        pool.add(within(2 * self._longest, self._open, Line.close))


def not_taken(error: BaseException) -> OperationalError:
    """Return what may be shown of an error: a sentence and a type, and no word of the driver."""
    return OperationalError(f"{NOT_TAKEN} ({kind(error)})")


def handling() -> BaseException | None:
    """Return the exception that the caller is handling."""
    return sys.exc_info()[1]


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
    error = beneath(error)
    nacked = type(error).__name__ == "MessageNacked"  # a full queue, for example
    return nacked or isinstance(error, connection.channel_errors)


def transport_name(connection: Connection) -> str:
    transport = type(connection.transport)
    return f"{transport.__module__}:{transport.__qualname__}"
