"""What every framework's view does: check, ask who may see it, read, answer.  No framework."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from celery import Celery

from ..errors import (
    ConfigurationError,
    InvalidTaskId,
    InvalidToken,
    JobtasticError,
    ResultsUnavailable,
)
from .access import Access
from .status import MOST_IDS, check_id, statuses
from .stored import Limits, encode

logger = logging.getLogger("jobtastic_ext")

HEADERS = {
    "Content-Type": "application/json",
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
}

#: Seconds after which a page may ask again when the result backend is down.
RETRY_AFTER = 2


class Answer(NamedTuple):
    """A response, whatever the framework."""

    status: int
    body: bytes
    headers: dict[str, str]


class StatusView:
    """Answers for the tasks of the app that `find_app` returns."""

    def __init__(
        self,
        find_app: Callable[[], Celery],
        limits: Limits,
        access: Access,
        *,
        legacy: bool = False,
    ) -> None:
        self.find_app, self.limits, self.access = find_app, limits, access
        #: In an outage the answer is one that jquery-celery skips: it gives up at its second 503,
        #: which it counts over the whole life of a page.
        self.legacy = legacy
        self._said = False

    def answer(
        self,
        request: Any,
        ids: Sequence[str],
        tokens: Sequence[str],
        *,
        method: str = "GET",
        etag: str | None = None,
        many: bool = False,
    ) -> Answer:
        """Answer a whole request; `etag` is what the client has already (``If-None-Match``)."""
        refused = self.refusal(request, ids, tokens, method)
        access = self.access
        if refused is None and access.authorize is not None:
            may = all(access.agrees(access.authorize(request, task_id)) for task_id in ids)
            refused = None if may else forbidden()
        return refused if refused is not None else self.read(ids, etag=etag, many=many)

    def refusal(
        self, request: Any, ids: Sequence[str], tokens: Sequence[str], method: str
    ) -> Answer | None:
        """Return why nothing is to be read, as far as is known without `authorize`; or None."""
        if method not in ("GET", "HEAD"):
            answer = refuse(405, "a status is asked for with GET")
            answer.headers["Allow"] = "GET, HEAD"
            return answer
        if not ids:
            return refuse(400, "name a task: ?id=…, up to 100 times")
        if len(ids) > MOST_IDS:
            return refuse(400, f"{len(ids)} ids are too many; at most {MOST_IDS} in one request")
        try:
            for task_id in ids:
                check_id(task_id)
            self.access.check_tokens(request, ids, tokens)
        except InvalidTaskId as error:
            return refuse(400, str(error))
        except InvalidToken as error:
            return refuse(403, str(error))
        except ConfigurationError as error:
            logger.error("no status is shown: %s", error)
            return refuse(503, "status tokens are not set up on this server")
        return None

    def read(self, ids: Sequence[str], *, etag: str | None, many: bool) -> Answer:
        """Answer with what is known of the tasks, whoever asks."""
        unique = list(dict.fromkeys(ids))
        try:
            found = statuses(self.find_app(), unique, self.limits)
        except JobtasticError as error:
            # Of an outage the log is told by the breaker, once; of a setting here.
            outage = isinstance(error, ResultsUnavailable)
            logger.log(
                logging.DEBUG if outage or self._said else logging.WARNING,
                "no answer to a status request: %s",
                error,
            )
            self._said = self._said or not outage
            if self.legacy and not many:
                return Answer(200, encode({"task": None}), dict(HEADERS))
            return unknown()
        body = encode({"tasks": found} if many else {"task": found[0]})
        tag = etag_of(body)
        headers = {**HEADERS, "ETag": tag}
        if etag is not None and tag in [one.strip().removeprefix("W/") for one in etag.split(",")]:
            return Answer(304, b"", headers)
        return Answer(200, body, headers)


def refuse(status: int, message: str) -> Answer:
    """Return an answer that says what is wrong, and nothing of what was sent."""
    return Answer(status, encode({"error": message}), dict(HEADERS))


def unknown() -> Answer:
    """Return the answer of an outage: ask again."""
    answer = refuse(503, "the state of the task is not known at the moment; ask again soon")
    answer.headers["Retry-After"] = str(RETRY_AFTER)
    return answer


def forbidden() -> Answer:
    return refuse(403, "this task is not yours to see")


def etag_of(body: bytes) -> str:
    return f'"{hashlib.blake2b(body, digest_size=12).hexdigest()}"'
