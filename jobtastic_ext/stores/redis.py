"""Claims in Redis or Valkey: one server, Sentinel, or Cluster.

The rules run in the server, as Lua scripts, so a call is one round trip.  Needs Redis 5 or newer,
or Valkey; redis-py 4.5 or newer.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property, partial
from importlib.resources import files
from typing import Any

import msgspec
from msgspec.structs import replace

from ..claims.records import (
    Answer,
    Begin,
    Claim,
    ClaimCall,
    Ending,
    Finish,
    Forget,
    Lapse,
    Operation,
    Release,
    Renew,
    Requeue,
)
from ..claims.store import PAGE, ResultPlace, Store
from ..redis_client.server import RedisServer, Script
from .foreign import ForeignValues, claims_in

encode = msgspec.json.Encoder().encode
decode = msgspec.json.Decoder(Claim).decode
decode_answer = msgspec.json.Decoder(Answer).decode

load = partial(Script.load, files(__package__) / "lua")

SCRIPTS = {
    ClaimCall: load("free", "look", "held", "record", "debounce", "seen", "claim"),
    Begin: load("record", "debounce", "look", "begin"),
    Ending: load("record", "ending"),
    Finish: load("record", "finish"),
    Release: load("record", "release"),
    Lapse: load("record", "lapse"),
    Requeue: load("record", "requeue"),
    Renew: load("record", "renew"),
    Forget: load("record", "forget"),
}
#: These look at results.
SEEING = (ClaimCall, Begin)

READ = load("record", "read")
SWAP = load("swap")
ADD, TOTALS = load("add"), load("totals")


class RedisStore(RedisServer, Store):
    """Claims on the servers that `url` names.

    To repeat a claim would answer "joined" to the one who has the claim, to repeat `Finish`,
    `Release` or `Requeue` would answer "lost"; see `RedisServer` for why that does not happen.

    Where the results are on the same server, a caller's answer brings with it what is stored there.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout: float = 0.5,
        results: Callable[[], ResultPlace | None] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(url, timeout=timeout, **options)
        self._foreign = ForeignValues(self.address)
        self._results = results

    @cached_property
    def _sight(self) -> tuple[bytes, ...]:
        """What tells a script where results are, if it can see them."""
        found = self._results() if self._results is not None else None
        server, db = self.place
        if found is None or found.server != server:
            return ()
        return b"", b"%d" % found.db, found.head, b"%d" % db

    def apply(self, key: str, operation: Operation) -> Answer:
        sight = self._sight if type(operation) in SEEING else ()
        reply = self._run(SCRIPTS[type(operation)], key, encode(operation), *sight)
        if type(reply) is list and len(reply) > 2:
            self._foreign.noticed(key)
        return answered(reply)

    def read(self, key: str) -> Claim | None:
        return self.look(key)[0]

    def look(self, key: str) -> tuple[Claim | None, int]:
        reply = self._run(READ, key, b"{}")
        if len(reply) > 2:
            self._foreign.noticed(key)
        return (decode(reply[0]) if reply[0] else None), reply[1]

    def load(self, keys: Sequence[str]) -> list[bytes | None]:
        return self.get_many([key.encode() for key in keys])

    def swap(self, key: str, old: bytes | None, new: bytes, ttl: int) -> bool:
        return bool(self._run(SWAP, key, old or b"", new, b"%d" % ttl))

    def add(self, key: str, counts: Mapping[str, int], ttl: int, mark: str) -> None:
        pairs = [part for each, by in counts.items() for part in (each.encode(), b"%d" % by)]
        self._run(ADD, key, mark.encode(), b"%d" % ttl, *pairs)

    def totals(self, keys: Sequence[str]) -> list[dict[str, int]]:
        found = self._run_many(TOTALS, [key.encode() for key in keys])
        return [counted(pairs) for pairs in found]

    def pages(self, head: str) -> Iterator[list[tuple[str, Claim]]]:
        match = re.sub(r"([\\*?\[\]])", r"\\\1", head) + "*"
        now = self.look(head)[1]
        for page in self._scan(match.encode(), PAGE):
            yield list(claims_in(((key.decode(), raw) for key, raw in page), now))


def counted(pairs: Sequence[bytes]) -> dict[str, int]:
    """The counts that a hash of `add.lua` holds."""
    named = dict(zip(pairs[::2], pairs[1::2], strict=True))
    return {name.decode(): int(number) for name, number in named.items() if name}


def answered(reply: Any) -> Answer:
    """The answer of a script: an `Answer` as JSON, perhaps with what is seen."""
    if type(reply) is bytes:
        return decode_answer(reply)
    return replace(decode_answer(reply[0]), seen=reply[1])
