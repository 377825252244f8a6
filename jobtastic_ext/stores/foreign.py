"""What is found where claims are, and which of it is one."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator

import msgspec

from ..claims.lifetime import expiry, prune
from ..claims.records import LINGER, Claim

logger = logging.getLogger(__name__)

#: So many keys are remembered; past that, further ones are logged again.
REMEMBERED = 1_000


#: Comes after every character of a key.
LAST = "~~"

_decode = msgspec.json.Decoder(Claim).decode


def claims_in(values: Iterable[tuple[str, bytes]], now: int) -> Iterator[tuple[str, Claim]]:
    """Yield those of the values under their keys that are claims, and have not ended."""
    for key, raw in values:
        try:
            claim = _decode(raw)
        except (msgspec.DecodeError, UnicodeDecodeError, TypeError):
            continue
        more = claim.value or claim.tombstones or claim.beside or claim.started
        if claim.holder is not None and not more:
            # Most are so, and there may be a million.
            if now < claim.holder.until + LINGER:
                yield key, claim
        elif now < expiry(claim):  # which is 0 for what is no claim
            yield key, prune(claim, now)


class ForeignValues:
    """Logs a warning for each key that holds something else than a claim, once."""

    def __init__(self, place: str) -> None:
        self._place = place
        self._seen: set[str] = set()

    def noticed(self, key: str) -> None:
        if key in self._seen:
            return
        if len(self._seen) >= REMEMBERED:
            self._seen.clear()
        self._seen.add(key)
        logger.warning(
            "the value under %s in %s is not a claim; it counts as absent and is replaced by the "
            "next change. If another program writes there, choose another jobtastic_key_prefix.",
            key,
            self._place,
        )
