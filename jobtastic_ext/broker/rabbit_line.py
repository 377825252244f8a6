"""Lines in RabbitMQ: two queues for each call key, made when the first message is parked.

The first of a line lies in a queue of its own, with a time to live, after which RabbitMQ puts it
back by itself (it dead-letters it); the rest lie behind it.  Both queues vanish when nobody has
parked anything for a while.  A message is acknowledged when its own queue has taken it.
"""

from __future__ import annotations

import hashlib
from typing import Any
from urllib.parse import quote, unquote

from .routing import DELAYED, DIGITS

#: Milliseconds after which what waits comes back in any case, should nobody wake or look.
NET = 3_600_000

#: Milliseconds after which the next of a line looks, when the one before it was woken.
LOOK = 60_000

#: Seconds within which RabbitMQ has to confirm.
CONFIRM = 5.0

#: What RabbitMQ writes into a message that it has put back.
DEATHS = ("x-death", "x-first-death-", "x-last-death-")


class RabbitLine:
    """A place is the exchange and the routing key by which its messages came, quoted."""

    def __init__(self, queue_type: str) -> None:
        self._type = queue_type

    def place(self, exchange: str, routing_key: str) -> str:
        if exchange == DELAYED:
            exchange, routing_key = "", routing_key.split(".", DIGITS)[-1]
        return f"{quote(exchange, safe='')}:{quote(routing_key, safe='')}"

    def park(
        self, channel: Any, key: str, message: Any, came: tuple[str, str], ms: int, front: bool
    ) -> None:
        first, rest, waiting = self._queues(channel, key, self.place(*came))
        is_first = front or not sum(waiting)
        headers = message.properties.get("application_headers") or {}
        for name in [name for name in headers if name.startswith(DEATHS)]:
            del headers[name]
        send(channel, message, "", first if is_first else rest, ms if is_first else NET)

    def wake(self, channel: Any, key: str, place: str, most: int, front: bool) -> int:
        exchange, routing_key = (unquote(part) for part in place.split(":"))
        first, rest, waiting = self._queues(channel, key, place)
        count = 0
        for name, ready in zip((first, rest), waiting, strict=True):
            for _ in range(min(ready, most - count)):
                count += move(channel, name, exchange, routing_key)
        if front and count and waiting[0] < 2:
            move(channel, rest, "", first, LOOK)  # somebody has to look after the rest
        return count

    def count(self, channel: Any, key: str, place: str) -> int:
        return sum(self._queues(channel, key, place)[2])

    def look(self, channel: Any, seconds: float) -> int:
        return 0  # RabbitMQ does it

    def _queues(self, channel: Any, key: str, place: str) -> tuple[str, str, list[int]]:
        """Return the names of both queues, and how many wait there."""
        exchange, routing_key = (unquote(part) for part in place.split(":"))
        arguments: dict[str, Any] = {
            "x-dead-letter-exchange": exchange,
            "x-dead-letter-routing-key": routing_key,
            "x-expires": 2 * NET,  # counted from when it was declared last
            "x-queue-type": self._type,
        }
        name = hashlib.sha1(f"{key} {place}".encode()).hexdigest()
        names = f"jobtastic.line.{name}.first", f"jobtastic.line.{name}"
        ready = [
            channel.queue_declare(
                queue=name, durable=True, auto_delete=False, arguments=arguments
            ).message_count
            for name in names
        ]
        return *names, ready


def move(channel: Any, queue: str, exchange: str, routing_key: str, ms: int = 0) -> int:
    """Take a message from a queue and send it there; return how many there were."""
    message = channel.basic_get(queue)
    if message is None:
        return 0
    send(channel, message, exchange, routing_key, ms)
    channel.basic_ack(message.delivery_tag)
    return 1


def send(channel: Any, message: Any, exchange: str, routing_key: str, ms: int) -> None:
    message.properties.pop("expiration", None)
    if ms:
        message.properties["expiration"] = str(ms)
    channel.basic_publish(
        message, exchange=exchange, routing_key=routing_key, confirm_timeout=CONFIRM
    )
