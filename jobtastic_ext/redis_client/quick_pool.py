"""Connections that are taken and given back in a tenth of the time that the driver's pool takes."""

from __future__ import annotations

import inspect
import select
from typing import Any

import redis.connection
from redis import exceptions as driver

# redis-py 5.3 deprecated the argument that earlier versions require.
_signature = inspect.signature(redis.connection.ConnectionPool.get_connection)
_CHECKOUT = () if _signature.parameters["command_name"].default is None else ("EVALSHA",)


def quick(base: Any) -> Any:
    """The driver's class of pools `base`, which keeps what was last used at hand.

    It belongs to one process, and nobody else uses it, so what the driver does for others at each
    check-out is left out: its lock, its look at the process, its events.  A connection that has
    been closed meanwhile is noticed all the same, before anything is sent.
    """

    class Quick(base):  # type: ignore[misc]
        def __init__(self, *args: Any, **options: Any) -> None:
            self._at_hand: list[Any] = []
            super().__init__(*args, **options)

        def take(self) -> Any:
            try:
                connection = self._at_hand.pop()
            except IndexError:
                return self.get_connection(*_CHECKOUT)
            if not is_quiet(connection):
                connection.disconnect()
            return connection  # what is not connected connects when it is to send

        def give_back(self, connection: Any) -> None:
            if connection._sock is None:
                self.release(connection)
            else:
                self._at_hand.append(connection)

        def disconnect(self, inuse_connections: bool = True) -> None:
            while self._at_hand:
                self.release(self._at_hand.pop())
            super().disconnect(inuse_connections)

    return Quick


def is_quiet(connection: Any) -> bool:
    """Whether the server has neither closed the connection nor said anything."""
    try:
        poll = select.poll()
    except AttributeError:  # Windows, or eventlet, which takes it away
        return not readable(connection)
    poll.register(connection._sock, select.POLLIN)
    return not poll.poll(0)


def readable(connection: Any) -> bool:
    try:
        return bool(connection.can_read(timeout=0))
    except (driver.ConnectionError, OSError):
        return True
