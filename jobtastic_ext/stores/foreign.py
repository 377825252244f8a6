"""What to say about a value under a key that is not a claim."""

from __future__ import annotations

import logging

logger = logging.getLogger(__name__)

#: So many keys are remembered; past that, further ones are logged again.
REMEMBERED = 1_000


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
