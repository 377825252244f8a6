"""What pages read of the result backend: by threads of their own, so that no request hangs.

Their breaker is theirs alone: what pages ask for keeps nobody from calling a task.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import cached_property

from celery import Celery
from celery.backends.base import Backend as CeleryBackend
from celery.backends.base import KeyValueStoreBackend

from ..errors import ConfigurationError
from .backend import Backend
from .kinds import holds_outcomes, is_shared
from .payloads import Payload

logger = logging.getLogger("jobtastic_ext")

#: The attribute of an app that holds its reads.
ATTRIBUTE = "_jobtastic_reads"

#: Seconds that a server may take to take a connection, or to answer, before a thread gives up.
SOCKET = 2.0

#: Failures in a row after which questions are refused until the backend answers again.
LIMIT = 3

#: What a value takes in the backend, at most, for each byte that is shown of it: JSON is stored in
#: ASCII (6 bytes for 2, 12 for 4) and with spaces; and what is stored beside the value.
STORED, BESIDE = 3, 100_000


class Reads:
    """Reads from the result backend of one app.

    May be used from many threads, and from a process forked after it was made.
    """

    def __init__(self, app: Celery) -> None:
        self._app = app
        self._said: set[str] = set()
        self._results = Backend(
            app,
            SOCKET,
            name="the result backend, asked for the state of tasks,",
            consequence="pages get a 503 meanwhile",
            limit=LIMIT,
            pooled=True,
        )

    def payloads(
        self, ids: Sequence[str], timeout: float, most: int | None = None
    ) -> list[Payload]:
        """Return what is stored for each id: a payload, a decoded dict, or None if nothing is.

        One question of the backend, whatever the number, where it can be asked for many.  `most`
        is the size in bytes of the longest result that is wanted; of longer ones there is a `Cut`,
        as there is past four times as much of all together.  An exception stands for what cannot
        be had.

        Raises `ResultsUnavailable` if the backend does not answer within `timeout` seconds, and
        `ConfigurationError` if the app has none that can be asked.
        """
        self.check()
        bound = None if most is None else STORED * most + BESIDE
        return self._results.read_many(ids, most=bound, timeout=timeout)

    def check(self) -> None:
        """Raise `ConfigurationError` for an app that keeps no results, or whose URL is mistyped."""
        try:
            kind = self._results.kind
        except Exception as error:  # noqa: BLE001 - of a module that is not there, or of Celery's
            raise ConfigurationError(
                f"the result backend of the app {self._app.main!r} cannot be loaded: "
                f"{type(error).__name__}; check result_backend, and that its driver is installed"
            ) from None  # what does not look like a scheme may be a password
        if not holds_outcomes(kind):
            raise ConfigurationError(
                f"the app {self._app.main!r} keeps no results that a page could ask for "
                f"({kind.__name__}); set result_backend to redis:// or another store, and give the "
                "status view the app that the workers use"
            )

    def warn_once(self, message: str, error: Exception) -> None:
        """Log what is wrong with the app, once in the life of the process."""
        if message not in self._said:
            self._said.add(message)
            logger.warning(message, error)

    def backend(self) -> CeleryBackend:
        """Return a backend that decodes what is read; where results are published, one to listen.

        Raises `ConfigurationError`.
        """
        self.check()
        return self._results.shared if is_shared(self._results.kind) else self._decoder

    def close(self) -> None:
        """Let go of threads and connections."""
        self._results.close()

    @cached_property
    def _decoder(self) -> CeleryBackend:
        # It has the serializer and what it accepts, and no server that it would connect to.
        return KeyValueStoreBackend(app=self._app)


def reads_of(app: Celery) -> Reads:
    """Return the app's reads, made when they are first used."""
    reads: Reads = vars(app).get(ATTRIBUTE) or vars(app).setdefault(ATTRIBUTE, Reads(app))
    return reads
