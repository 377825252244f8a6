"""Task id → what a page may know of the task.  No framework; one or two reads."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Sequence
from datetime import datetime, timezone
from typing import Any

import msgspec
from celery import Celery, states
from celery.backends.base import Backend

from ..errors import ConfigurationError, InvalidTaskId
from ..keys.call_key import keys_head
from ..results.kinds import publishes
from ..results.reader import reads_of
from ..runtime import Runtime, runtime_of
from .lost import ALIVE, ASK_AGAIN, Verdict, verdicts_of
from .stored import UNREADABLE, Limits, Stored, encode, read_stored

__all__ = ("MOST_IDS", "Limits", "check_id", "encode", "payload_status", "statuses", "task_status")

logger = logging.getLogger("jobtastic_ext")

#: The most ids that one request may ask for.
MOST_IDS = 100

#: What an id may look like: Celery's own, or another that is safe in a path and in a key.
TASK_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:@=+-]{0,127}")

LOST = "Nothing has been heard of this task since {:%H:%M:%S} UTC; its worker is probably gone."

#: Seconds until a page asks again: shortest, longest.
SOONEST, LATEST = 0.5, 15.0


def task_status(
    app: Celery,
    task_id: str,
    *,
    tracebacks: bool = False,
    max_result: int | None = 5_000_000,
    timeout: float = 1.0,
    messages: str = "all",
    public_exceptions: Iterable[type[BaseException] | str] = (),
) -> dict[str, Any]:
    """Return ``{"task": {"id", "status", "result", …}}``, ready for JSON.

    `result` is the value in ``SUCCESS``, the message in ``FAILURE``, ``REVOKED`` and ``RETRY``
    (with ``"exc"``, the exception's type), the report in ``PROGRESS`` and None before.  A value
    that cannot be JSON, or is longer than `max_result` bytes, is None, and ``"omitted"`` says why.
    A run of which nothing is heard is a ``FAILURE`` with ``"lost": True`` once its lease is over,
    nobody has renewed it though the store answered for some seconds, and it reports nothing:
    ``"heard"`` says since when.  If it is heard of again, that is taken back.  Before, or where
    its lease goes on, ``"unconfirmed"`` is True: there should have been another report by now.
    As far as it is known, ``"retry_after"`` says in how many seconds to ask again, and ``"queue"``
    how many messages a task in ``PENDING`` waits for: ``{"ahead": 3}``.

    With ``messages="public"`` only exceptions that `public_exceptions` names (classes or dotted
    names), or whose class says ``jobtastic_public = True``, speak for themselves; of others a
    sentence asks to quote the task's id, and ``"private"`` is True.

    Raises `InvalidTaskId`, `ResultsUnavailable` if the result backend did not answer within
    `timeout` seconds, and `ConfigurationError` if the app keeps no results.
    """
    limits = Limits(
        tracebacks=tracebacks,
        max_result=max_result,
        timeout=timeout,
        messages=messages,
        public_exceptions=public_exceptions,
    )
    (task,) = statuses(app, [task_id], limits)
    found: dict[str, Any] = msgspec.json.decode(encode({"task": task}))
    return found


def check_id(task_id: object) -> str:
    """Return the id if it can be one.  Raises `InvalidTaskId`."""
    if isinstance(task_id, str) and TASK_ID.fullmatch(task_id):
        return task_id
    raise InvalidTaskId(
        "this is no task id; expected 1 to 128 letters, digits or any of _ . : @ = + -"
    )


def statuses(app: Celery, ids: Sequence[str], limits: Limits) -> list[dict[str, Any]]:
    """Return what `task_status` tells of each task, with results that are encoded already."""
    for task_id in ids:
        check_id(task_id)
    reads = reads_of(app)
    payloads = reads.payloads(ids, limits.timeout, limits.max_result)
    backend = reads.backend()
    return [
        payload_status(app, backend, task_id, payload, limits)
        for task_id, payload in zip(ids, payloads, strict=True)
    ]


def payload_status(
    app: Celery,
    backend: Backend,
    task_id: str,
    payload: Any,
    limits: Limits,
    *,
    heard: bool = False,
) -> dict[str, Any]:
    """Return the status that a payload of the result backend stands for; None stands for none.

    What was `heard` at this moment from the run itself is not asked about: that run is alive.
    What goes wrong with one task concerns no other.
    """
    try:
        return status_of(app, backend, task_id, payload, limits, heard)
    except Exception:
        logger.exception("what is known of %s cannot be told", task_id)
        return {"id": task_id, "status": states.FAILURE, "result": UNREADABLE, "exc": "Exception"}


def status_of(
    app: Celery, backend: Backend, task_id: str, payload: Any, limits: Limits, heard: bool
) -> dict[str, Any]:
    stored = read_stored(backend, task_id, payload, limits)
    verdict = ALIVE if heard else verdict_on(app, backend, task_id, stored)
    if verdict.word == "lost":
        said = LOST.format(datetime.fromtimestamp(verdict.heard, timezone.utc))
        task = {"id": task_id, "status": states.FAILURE, "result": said}
        return {**task, "exc": "WorkerLostError", "lost": True, "heard": verdict.heard}
    task = {"id": task_id, "status": stored.status, "result": stored.result}
    for name in ("exc", "omitted", "traceback", "attempt", "ended"):
        said = getattr(stored, name)
        if said is not None:
            task[name] = said
    for name in ("gone", "private"):
        if getattr(stored, name):
            task[name] = True
    task.update(waits_for(app, task_id, payload, stored))
    wait = retry_after(stored) if stored.status == "PROGRESS" else None
    if verdict.silent:
        task["unconfirmed"] = True
    if verdict.word == "maybe":
        wait = min(wait or ASK_AGAIN, ASK_AGAIN)
    if wait is not None:
        task["retry_after"] = wait
    return task


def waits_for(app: Celery, task_id: str, payload: Any, stored: Stored) -> dict[str, Any]:
    """Return what is known of why a task has not begun yet, or not again."""
    runtime = known_runtime(app) if payload is None or stored.status == states.RETRY else None
    if runtime is None:
        return {}
    if payload is None:
        known = runtime.positions.of(task_id) if runtime.positions is not None else None
        return {} if known is None else {"queue": known}
    waiting = runtime.retries.of(task_id)
    return {} if waiting is None else {"attempt": waiting.attempt, "retry_in": waiting.seconds}


def verdict_on(app: Celery, backend: Backend, task_id: str, stored: Stored) -> Verdict:
    """Return what is known of a run besides its last report: by its claim, if it has one."""
    key, verdicts = stored.key, verdicts_of(app)
    runtime = known_runtime(app) if key is not None else None
    if runtime is None or key is None or not key.startswith(keys_head(runtime.settings.key_prefix)):
        # No key of ours, or another deployment's.  A task without a policy renews its reports
        # where a late one cannot replace its result.
        return verdicts.without_claim(task_id, stored) if publishes(backend) else ALIVE
    return verdicts.on(runtime, task_id, key, stored)


def known_runtime(app: Celery) -> Runtime | None:
    """Return the app's runtime; None without one, or while its settings or its policy are wrong.

    That a status is told of needs neither: where the policy is missing, lost runs are not seen.
    """
    try:
        return runtime_of(app)
    except ConfigurationError as error:
        reads_of(app).warn_once(
            "what a status view would know by the policy is left out: %s", error
        )
        return None


def retry_after(stored: Stored) -> float | None:
    """Return in how many seconds to ask again: later for a longer job, soon towards its end.

    None if the report says nothing of time: a client knows itself for how long it has waited.
    """
    remaining, elapsed = stored.remaining, stored.elapsed
    if remaining is not None and remaining >= 0:
        wait = remaining / 10
    elif elapsed is not None and elapsed >= 0:
        wait = max(elapsed / 10, 1.0)
    else:
        return None
    return round(min(max(wait, SOONEST), LATEST), 1)
