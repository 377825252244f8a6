"""Messages that wait for a run are parked in the broker, and woken when it ends.

What a task publishes on a `Parking` channel goes into the line of a call instead of its queue.
How a line is kept is the broker's affair; where there are none, nothing can be parked.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from functools import cached_property, partial
from typing import Any

from kombu.exceptions import OperationalError

from .line import Line, NoLine, Parking
from .publisher import Broker
from .rabbit_line import RabbitLine

logger = logging.getLogger("jobtastic_ext")

#: Seconds after which one of those that wait looks by itself, lest a wake-up was lost.
SLOW_LOOK = 60.0

#: Seconds within which the broker has to take a message that is parked or woken.
PATIENCE = 5.0

#: Messages that are woken in one step of the broker.
BITE = 500


class Lines:
    """The lines of one app's broker.  What the broker raises is an `OperationalError`."""

    def __init__(self, broker: Broker, queue_type: str) -> None:
        #: Of RabbitMQ: ``classic`` or ``quorum``.
        self._queue_type = queue_type
        self._broker = broker

    @property
    def kind(self) -> str:
        """What kind of broker it is."""
        return self._broker.kind

    @cached_property
    def _line(self) -> Line | None:
        if self.kind == "redis":
            from .redis_line import RedisLine  # the driver, only where Redis is used

            return RedisLine()
        if self.kind == "amqp":
            return RabbitLine(self._queue_type)
        return None

    @property
    def can_park(self) -> bool:
        """Whether messages can wait in this broker without coming back to look."""
        return self._line is not None

    @property
    def looks(self) -> bool:
        """Whether somebody has to look after the lines, because the broker does not."""
        return self.kind == "redis"

    def place(self, delivery_info: Mapping[str, Any] | None) -> str:
        """Return where a message that was delivered so is parked: who wakes it has to know."""
        came = delivery_info or {}
        where = str(came.get("exchange") or ""), str(came.get("routing_key") or "")
        return self._line.place(*where) if self._line is not None else ""

    def park(self, key: str, send: Callable[[Any], Any], seconds: float, front: bool) -> None:
        """Park what `send(producer)` publishes, to be looked at in so many seconds.

        Raises `NoLine` for a message that cannot be parked.
        """
        line = self._line
        if line is None:
            raise NoLine

        def parked(producer: Any) -> None:
            channel = Parking(producer.channel, line, key, round(seconds * 1000), front)
            send(type(producer)(channel, auto_declare=False))

        self._broker.publish(parked, time.monotonic() + PATIENCE, certain=True)

    def wake(self, key: str, places: str, one: bool) -> int:
        """Wake the first, or all, that wait for a key; return how many there were."""
        line, count = self._line, 0
        if line is None:
            return 0
        most = 1 if one else BITE
        for place in places.split(" "):
            work = partial(self._woken, line, key, place, most, one)
            found = most
            while found >= most and not (one and count):
                found = self._broker.publish(work, time.monotonic() + PATIENCE, certain=True)
                count += found
        return count

    def count(self, key: str, places: str) -> int | None:
        """Return how many messages wait for a key; None if the broker does not say."""
        line, until = self._line, time.monotonic() + PATIENCE
        if line is None:
            return 0
        count = 0
        for place in places.split():
            work = partial(self._counted, line, key, place)
            try:
                count += self._broker.publish(work, until, certain=False)
            except OperationalError as error:
                logger.debug("it is not known how many wait for %s: %s", key, error)
                return None
        return count

    @staticmethod
    def _counted(line: Line, key: str, place: str, producer: Any) -> int:
        return line.count(producer.channel, key, place)

    @staticmethod
    def _woken(line: Line, key: str, place: str, most: int, front: bool, producer: Any) -> int:
        return line.wake(producer.channel, key, place, most, front)

    def look(self) -> None:
        """Look after the lines, if the broker does not do so itself."""
        line = self._line
        if line is not None and self.looks:
            self._broker.publish(
                lambda producer: line.look(producer.channel, SLOW_LOOK),
                time.monotonic() + PATIENCE,
                certain=False,
            )
