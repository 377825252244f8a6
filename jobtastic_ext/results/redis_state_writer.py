"""Writes progress to Celery's own Redis backend: in one atomic command, never over a final result.

Celery's client goes on trying for 20 s when the server is gone; and its check for a final result
and the write are two steps.
"""

from __future__ import annotations

import logging
from importlib.resources import files
from typing import Any

from celery import states
from celery.app.task import Context, Task

from ..errors import StoreError, StoreUnavailable
from ..redis_client.server import RedisServer, Script
from ..resilience.circuit_breaker import CircuitBreaker
from ..settings import Settings
from .state_writer import MEANING, NAME, PROGRESS, BackendSender, BackendWriter, Sender

logger = logging.getLogger("jobtastic_ext")

#: How often a write begins anew because the state was changed by somebody else.
ATTEMPTS = 3

REPLACE = Script.load(files(__package__), "replace")


class RedisResults(RedisServer):
    """The result backend's Redis; one call takes about `timeout` seconds at most.

    Raises `StoreError`, and `StoreUnavailable` past the timeout.
    """

    def replace(self, key: bytes, old: bytes, new: bytes, expires: int) -> bytes | None:
        """Put `new` under `key` for `expires` seconds (0: for ever) if `old` is there now.

        Atomic, and published as Celery does.  `old` is empty for a key that does not exist.
        Returns None when it is done, else what is there instead.
        """
        found: bytes = self._run(REPLACE, key, old, new, b"%d" % expires)
        if found == b"\0":
            return b""
        return found or None


class RedisWriter:
    """Replaces the state that is known by the next one, in one atomic command."""

    def __init__(self, settings: Settings, other: BackendWriter) -> None:
        assert settings.results is not None
        self.results = RedisResults(
            settings.results, timeout=settings.store_timeout, **settings.results_options
        )
        self.breaker = CircuitBreaker(
            NAME, self.results.ping, refusal=StoreUnavailable, consequence=MEANING
        )
        self.other = other
        #: The server lets us run no scripts: Celery's own way has to do.
        self.refused = False

    @property
    def atomic(self) -> bool:
        return not self.refused

    def sender(self, task: Task, request: Context) -> Sender | None:
        if task._backend is not None or self.refused:
            return self.other.sender(task, request)
        return RedisSender(self, task, request)

    def refuse(self, error: StoreError) -> None:
        """Write as Celery does from now on."""
        if not self.refused:
            self.refused = True
            logger.warning(
                "progress is written as Celery does, in several commands: %s; to have it written "
                "in one, give the user of the result backend the right to EVALSHA and EVAL",
                error,
            )

    def close(self) -> None:
        self.breaker.close()
        self.results.close()


class RedisSender:
    """Writes the states of one run."""

    def __init__(self, writer: RedisWriter, task: Task, request: Context) -> None:
        self._writer, self._task, self._request = writer, task, request
        # Of the thread that writes first; both are asked for only by a task that reports.
        self._backend: Any = None
        self._key = b""
        #: What was written last, as bytes.
        self._known = b""
        self._other: BackendSender | None = None

    def __call__(self, state: dict[str, Any]) -> bool:
        if self._other is not None:
            return self._other(state)
        if self._writer.breaker.is_open:
            return True
        if self._backend is None:
            self._backend = self._task.backend
            self._key = in_bytes(self._backend.get_key_for_task(self._request.id))
        meta = self._backend._get_result_meta(state, PROGRESS, None, self._request)
        meta["task_id"] = self._request.id
        value = in_bytes(self._backend.encode(meta))
        try:
            return self._writer.breaker.call(lambda: self._replace(value), StoreUnavailable)
        except StoreUnavailable:
            return True
        except StoreError as error:
            self._writer.refuse(error)
            self._other = BackendSender(self._writer.other.results, self._task, self._request)
            return self._other(state)

    def settle(self, result: Any, state: str) -> None:
        """The run has its final result; see `BackendSender.settle`."""
        if self._other is not None:
            self._other.settle(result, state)

    def _replace(self, value: bytes) -> bool:
        expires = int(self._backend.expires or 0)
        for _ in range(ATTEMPTS):
            found = self._writer.results.replace(self._key, self._known, value, expires)
            if found is None:
                self._known = value
                return True
            if found and self._is_final(found):
                return False
            self._known = found  # nothing any more, STARTED, RETRY, or what the task has written
        return True

    def _is_final(self, found: bytes) -> bool:
        try:
            return self._backend.decode_result(found)["status"] in states.READY_STATES
        except Exception as error:  # noqa: BLE001 - whatever it is, it is not ours to replace
            logger.warning("the state of task %s cannot be read: %r", self._request.id, error)
            return True


def in_bytes(text: str | bytes) -> bytes:
    return text.encode() if isinstance(text, str) else text
