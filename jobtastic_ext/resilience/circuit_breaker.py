"""A circuit breaker: an outage costs the first calls their wait, and the later ones nothing.

After a few failures in a row the circuit opens: calls fail at once, and a thread of its own asks,
now and then, whether the server is back.  No call ever waits for that probe.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import TypeVar

from .per_process import per_process, start_daemon
from .redaction import in_log

logger = logging.getLogger("jobtastic_ext")

T = TypeVar("T")

Errors = type[BaseException] | tuple[type[BaseException], ...]

#: Seconds between probes, first and longest.
FIRST_PROBE, LONGEST_PROBE = 0.1, 1.0


class Circuit:
    """The state of one server, as one process sees it."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.closed = threading.Event()
        self.failures = 0
        self.is_open = False


class CircuitBreaker:
    """Guards one server for one purpose, as this process sees it; a forked child's is closed.

    `probe` asks the server whether it answers, and raises if it does not; `limit` is the number of
    failures in a row that open the circuit; `refusal` is raised while it is open.
    """

    def __init__(
        self,
        name: str,
        probe: Callable[[], object],
        *,
        refusal: type[Exception] = ConnectionError,
        limit: int = 1,
        consequence: str = "",
    ) -> None:
        #: How messages call the server; never a URL with a password.
        self.name = name
        self._probe, self._limit, self._consequence = probe, limit, consequence
        self._refusal = refusal
        self._circuit = per_process(Circuit)

    @property
    def is_open(self) -> bool:
        """Whether calls fail at once."""
        return self._circuit().is_open

    def call(self, question: Callable[[], T], counts: Errors) -> T:
        """Return what `question()` returns, and raise what it raises.

        Errors that `counts` names say that the server cannot be reached.  All others are answers of
        it: a refusal, or a value that is too large, is no outage.
        """
        if self.is_open:
            raise self._refusal(f"{self.name} is not answering; it is asked again soon")
        try:
            answer = question()
        except counts as error:
            self.failed(error)
            raise
        self.succeeded()
        return answer

    def failed(self, error: BaseException) -> None:
        """Count a failure.  One warning for each outage, at the first."""
        circuit = self._circuit()
        with circuit.lock:
            circuit.failures += 1
            first = circuit.failures == 1
            opens = circuit.failures >= self._limit and not circuit.is_open
            circuit.is_open = circuit.is_open or opens
        if first:
            logger.warning(
                "%s does not answer (%s); %s", self.name, in_log(error), self._consequence
            )
        if opens:
            start_daemon(self._ask, "probe")

    def succeeded(self) -> None:
        """Tell of an answer; cheap while there was no failure."""
        circuit = self._circuit()
        if not circuit.failures:
            return
        with circuit.lock:
            if not circuit.failures:
                return
            circuit.failures, circuit.is_open = 0, False
        logger.info("%s answers again", self.name)

    def close(self) -> None:
        """Stop probing."""
        self._circuit().closed.set()

    def _ask(self) -> None:
        closed, pause = self._circuit().closed, FIRST_PROBE
        while not closed.wait(pause):
            try:
                self._probe()
            except Exception:  # noqa: BLE001 - whatever it raises, the server is not back
                pause = min(pause * 2, LONGEST_PROBE)
            else:
                self.succeeded()
                return
