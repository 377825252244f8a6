"""One connection to Redis, and the time that a call on it has left."""

from __future__ import annotations

import re
import threading
import time
from abc import ABC, abstractmethod
from typing import Any

from redis import exceptions as driver

from ..errors import StoreError, StoreUnavailable
from ..resilience.deadline import is_hurried, within


class Budget(threading.local):
    """How much time the call under way in this thread has left."""

    def __init__(self, timeout: float) -> None:
        self.timeout = timeout
        self.end = time.monotonic() + timeout

    def start(self) -> None:
        self.end = time.monotonic() + self.timeout

    def left(self) -> float:
        """Seconds, and never so few that a server which answers at once would be too late.

        In a process with many busy threads a call may wait for the interpreter longer than for the
        server (0.5 s and more, with 25 threads in each of 8 processes on 2 cores).  That is no
        fault of the server, and must not cost what the call came for.
        """
        return max(self.end - time.monotonic(), self.timeout / 4)


def bounded(base: Any, budget: Budget, longest: float) -> Any:
    """The driver's connection class `base`, with each wait kept within `budget` and `longest`.

    The driver's own timeouts hold for one wait, and a call may be many: connect, greet, ask a
    sentinel or another node.
    """

    class Bounded(base):  # type: ignore[misc]
        def _connect(self) -> Any:
            self.socket_timeout = self.socket_connect_timeout = min(budget.left(), longest)
            if not is_hurried():
                return super()._connect()
            # The look-up of a name takes as long as it takes.
            return within(self.socket_timeout, super()._connect, lambda late: late.close())

        def send_packed_command(self, command: Any, check_health: bool = True) -> Any:
            if self._sock is not None:
                self._sock.settimeout(min(budget.left(), longest))
            return super().send_packed_command(command, check_health)

    return Bounded


class Servers(ABC):
    """Where the command for a key goes."""

    #: One command may name keys of any kind.
    is_one = False

    @abstractmethod
    def ask(self, key: bytes, command: bytes) -> Any:
        """Send `command` to whoever serves `key` and return the answer, raise an error answer."""

    @abstractmethod
    def pools(self) -> list[Any]:
        """Return what reaches each of the servers among which keys are spread."""

    @abstractmethod
    def close(self) -> None:
        """Close the connections that no thread uses now."""


class OneServer(Servers):
    """A pool of connections, to one address or to the master that Sentinel names."""

    is_one = True

    def __init__(self, pool: Any, *others: Any) -> None:
        self._pool = pool
        self._others = others

    def ask(self, key: bytes, command: bytes) -> Any:
        return exchange(self._pool, command)

    def pools(self) -> list[Any]:
        return [self._pool]

    def close(self) -> None:
        for pool in (self._pool, *self._others):
            pool.disconnect(inuse_connections=False)


def packed(*parts: bytes) -> bytes:
    """`parts` as one command in Redis' protocol."""
    return b"*%d\r\n" % len(parts) + b"".join([b"$%d\r\n%b\r\n" % (len(p), p) for p in parts])


ASKING = packed(b"ASKING")


def exchange(pool: Any, command: bytes, *, asking: bool = False) -> Any:
    """Send `command` over a connection of `pool` and return the answer, raise an error answer.

    The client class does the same in a quarter more time.
    """
    return exchange_many(pool, [ASKING, command] if asking else [command])[-1]


def exchange_many(pool: Any, commands: list[bytes], *, errors: bool = False) -> list[Any]:
    """The same with several at once; with `errors`, error answers are among those returned."""
    connection = pool.take()
    try:
        connection.send_packed_command([b"".join(commands)])
        return [read(connection, errors) for _ in commands]
    except driver.ResponseError:
        raise
    except BaseException:
        # An answer may still be under way (a soft time limit can strike between the two lines);
        # whoever used the connection next would take it for the answer to their own question.
        connection.disconnect()
        raise
    finally:
        pool.give_back(connection)


def read(connection: Any, errors: bool) -> Any:
    try:
        return connection.read_response()
    except driver.ResponseError as error:
        if errors:
            return error
        raise


#: Answers of a server that is up and may serve the command later, or elsewhere.
LATER = re.compile(
    r"\b(BUSY|CLUSTERDOWN|LOADING|MASTERDOWN|MISCONF|NOREPLICAS|OOM|READONLY|TRYAGAIN)\b"
)
LATER_ERRORS = (
    driver.ConnectionError,
    driver.TimeoutError,
    driver.ClusterError,
    driver.AskError,
    driver.TryAgainError,
    driver.ReadOnlyError,
    getattr(driver, "OutOfMemoryError", driver.ReadOnlyError),
)
RIGHTS_ERRORS = (
    driver.AuthenticationError,
    driver.AuthorizationError,
    driver.NoPermissionError,
    driver.AuthenticationWrongNumberOfArgsError,
)


def wrapped(error: driver.RedisError, address: str, timeout: float) -> StoreError:
    if isinstance(error, RIGHTS_ERRORS):
        return StoreError(
            f"the Redis store at {address} refused: {error}; "
            "check the user name and password in jobtastic_store, and that user's rights"
        )
    if isinstance(error, driver.TimeoutError):
        return StoreUnavailable(
            f"the Redis store at {address} did not answer within {timeout:g} s ({error}); "
            "check that it runs and can be reached, or raise jobtastic_store_timeout"
        )
    if isinstance(error, LATER_ERRORS) or LATER.search(str(error)):
        return StoreUnavailable(
            f"the Redis store at {address} cannot serve: {error}; "
            "check that it runs, can be reached and accepts writes"
        )
    return StoreError(f"the Redis store at {address} failed: {error}")
