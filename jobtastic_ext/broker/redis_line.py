"""Lines in Redis, beside the queues of kombu's transport and on its own connections."""

from __future__ import annotations

from importlib.resources import files
from typing import Any
from uuid import uuid4

from kombu.utils import json

from ..redis_client.server import Script
from .line import NoLine

SCRIPT = Script.load(files(__package__), "line").source.decode()

#: The name of where all of a key's messages are parked: there is one line for each key.
PLACE = "line"

#: Seconds, beyond the transport's visibility timeout, after which any worker puts back what waits.
NET = 3_600

#: Lines that one look wakes at most.
MOST_LINES = 50


class RedisLine:
    """See ``line.lua`` for what is kept where."""

    def place(self, exchange: str, routing_key: str) -> str:
        return PLACE

    def park(
        self, channel: Any, key: str, message: Any, came: tuple[str, str], ms: int, front: bool
    ) -> None:
        queues = channel._lookup(*came)
        if len(queues) != 1:
            raise NoLine  # its copies would go to all of them again
        (queue,) = queues
        channel._inplace_augment_message(message, *came)
        priority = channel._get_message_priority(message, reverse=False)
        name = f"{channel.global_keyprefix}{channel._q_for_pri(queue, priority)}"
        # Not the tag that is within: under that kombu notes the message when it is put back, and
        # given to a worker.
        tag, raw = str(uuid4()), dumped(message)
        size = len(raw.encode())
        held = f'[{raw}, "", {dumped(queue)}]'
        entry = f"{size} {tag} {name}"
        run(channel, key, "park", key, ms, int(front), tag, held, entry, NET)

    def wake(self, channel: Any, key: str, place: str, most: int, front: bool) -> int:
        return run(channel, key, "wake", key, most, int(front))

    def count(self, channel: Any, key: str, place: str) -> int:
        return run(channel, key, "count")

    def look(self, channel: Any, seconds: float) -> int:
        lists = f"{channel.global_keyprefix}jobtastic.line:"
        return run(channel, "", "look", lists, round(seconds * 1000), MOST_LINES)


def run(channel: Any, key: str, *arguments: Any) -> int:
    prefix = channel.global_keyprefix
    names = (channel.unacked_key, channel.unacked_index_key, "jobtastic.lines")
    keys = [f"{prefix}{name}" for name in (*names, f"jobtastic.line:{key}")]
    with channel.conn_or_acquire() as client:
        # Not EVALSHA, to which kombu would add its prefix.
        return int(client.execute_command("EVAL", SCRIPT, len(keys), *keys, *arguments))


def dumped(what: Any) -> str:
    """Return it as kombu's transport writes it."""
    return str(json.dumps(what))
