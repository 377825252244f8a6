"""How a broker keeps a line of messages, and the channel on which what is published is parked."""

from __future__ import annotations

from typing import Any, Protocol


class NoLine(Exception):
    """This message cannot be parked here."""


class Line(Protocol):
    """How one kind of broker keeps lines, on a kombu channel of it."""

    def place(self, exchange: str, routing_key: str) -> str:
        """Return the name of where messages that came that way are parked."""

    def park(
        self, channel: Any, key: str, message: Any, came: tuple[str, str], ms: int, front: bool
    ) -> None:
        """Put a message in the line of a key; `came` is its exchange and routing key.

        It is looked at in `ms`.  Raises `NoLine`.
        """

    def wake(self, channel: Any, key: str, place: str, most: int, front: bool) -> int:
        """Put up to so many messages back in their queues; return how many there were."""

    def count(self, channel: Any, key: str, place: str) -> int:
        """Return how many messages are parked there for a key."""

    def look(self, channel: Any, seconds: float) -> int:
        """Wake the first message of each line whose time has come, and again in `seconds`."""


class Parking:
    """A channel on which whatever is published is parked."""

    def __init__(self, channel: Any, line: Line, key: str, ms: int, front: bool) -> None:
        self._channel, self._line = channel, line
        self._key, self._ms, self._front = key, ms, front

    def __getattr__(self, name: str) -> Any:
        return getattr(self._channel, name)

    def basic_publish(
        self, message: Any, exchange: str = "", routing_key: str = "", **_: Any
    ) -> None:
        came = exchange, routing_key
        self._line.park(self._channel, self._key, message, came, self._ms, self._front)
