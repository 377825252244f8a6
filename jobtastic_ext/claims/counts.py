"""Numbers under names in one small value, for a store that knows no better way to add to them."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from msgspec import Struct

#: Writers whose last addition is remembered, so that it is not made twice.
MOST_WRITERS = 512

#: Digits of a mark that name its writer; those behind them count up.
WRITER = 12


class Counts(Struct, frozen=True):
    """What stands under one key."""

    counts: dict[str, int] = {}
    #: The last of each writer, the longest silent first.
    marks: tuple[str, ...] = ()


encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Counts).decode


def decode(raw: bytes | None) -> Counts:
    """Read what `added` wrote; anything else is nothing."""
    try:
        return _decode(raw) if raw else Counts()
    except (msgspec.DecodeError, UnicodeDecodeError):
        return Counts()


def added(raw: bytes | None, more: Mapping[str, int], mark: str) -> bytes | None:
    """Return the value with `more`; None if that addition has been made."""
    old = decode(raw)
    writer = mark[:WRITER]
    if any(each[:WRITER] == writer and each >= mark for each in old.marks):
        return None
    others = [each for each in old.marks if each[:WRITER] != writer]
    counts = dict(old.counts)
    for name, number in more.items():
        counts[name] = counts.get(name, 0) + number
    return encode(Counts(counts, (*others, mark)[-MOST_WRITERS:]))
