"""Waking those that wait for a call, when what they wait for has ended."""

from __future__ import annotations

import logging
from typing import Protocol

from ..errors import StoreError
from .records import Release, Terms
from .store import Store

logger = logging.getLogger("jobtastic_ext")

#: How often those are woken who came while the claim was kept for a line that had ended.
ATTEMPTS = 3


class Line(Protocol):
    """The broker's lines of parked messages."""

    def wake(self, key: str, places: str, one: bool) -> int:
        """Wake the first, or all, that are parked for a key; return how many there were."""


def wake(store: Store, line: Line, terms: Terms, key: str, places: str) -> None:
    """Wake whom an answer of the store names.

    Whom this does not reach looks by itself after a while, so it raises nothing.
    """
    for _ in range(ATTEMPTS):
        if not places:
            return
        try:
            if line.wake(key, places, terms.exclusive) or not terms.exclusive:
                return
            # Nobody is left in the line that the claim is kept for.
            places = store.apply(key, Release(task_id="", hold=terms.hold)).waiting
        except StoreError as error:
            logger.debug("%s: the claim is kept for a line that has ended: %s", key, error)
            return
        except Exception as error:  # noqa: BLE001 - the broker's, of whatever kind
            logger.warning("%s: who waits is not woken, and looks later: %r", key, error)
            return
