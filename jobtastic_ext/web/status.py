"""Task id → what a page may know of the task.  No framework; one or two reads."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any, TypeGuard

import msgspec
from celery import Celery, states
from celery.backends.base import Backend

from ..errors import ConfigurationError, InvalidTaskId, StoreError
from ..results.payloads import FORGOTTEN, Cut, decode
from ..results.reader import reads_of
from ..runtime import Runtime, runtime_of
from ..waiting import queue_of

__all__ = ("MOST_IDS", "Limits", "check_id", "encode", "payload_status", "statuses", "task_status")

logger = logging.getLogger("jobtastic_ext")

#: The most ids that one request may ask for.
MOST_IDS = 100

#: What an id may look like: Celery's own, or another that is safe in a path and in a key.
TASK_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:@=+-]{0,127}")

#: A failure's message is cut here, in characters.
LONGEST_MESSAGE = 10_000

UNREADABLE = "What was stored for this task cannot be read."

LOST = "The worker that ran this task is gone; it did not come to an end."

GONE = "The result of this task was forgotten; it is gone."

#: Seconds until a page asks again: shortest, longest.
SOONEST, LATEST = 0.5, 15.0

#: States whose stored result is an exception.
FAILED = (states.FAILURE, states.REVOKED, states.RETRY)

encode = msgspec.json.Encoder(order="deterministic").encode


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """How much a status tells, and how long it may take."""

    #: A failure comes with its traceback: for yourself, never for the world.
    tracebacks: bool = False
    #: The longest result, in bytes of JSON, that is handed on; None for any.
    max_result: int | None = 5_000_000
    #: Seconds that the result backend may take.
    timeout: float = 1.0


def task_status(
    app: Celery,
    task_id: str,
    *,
    tracebacks: bool = False,
    max_result: int | None = 5_000_000,
    timeout: float = 1.0,
) -> dict[str, Any]:
    """Return ``{"task": {"id", "status", "result", …}}``, ready for JSON.

    `result` is the value in ``SUCCESS``, the message in ``FAILURE``, ``REVOKED`` and ``RETRY``
    (with ``"exc"``, the exception's type), the report in ``PROGRESS`` and None before.  A value
    that cannot be JSON, or is longer than `max_result` bytes, is None, and ``"omitted"`` says why.
    A run whose worker died is a ``FAILURE`` with ``"lost": True`` once its lease is over.  As
    far as it is known, ``"retry_after"`` says in how many seconds to ask again, and
    ``"queue"`` how many messages a task in ``PENDING`` waits for: ``{"ahead": 3}``.

    Raises `InvalidTaskId`, `ResultsUnavailable` if the result backend did not answer within
    `timeout` seconds, and `ConfigurationError` if the app keeps no results.
    """
    limits = Limits(tracebacks=tracebacks, max_result=max_result, timeout=timeout)
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
    """
    result: Any
    if isinstance(payload, Cut) and payload.state:
        omitted = f"the result is too large to show: {payload.size:,} bytes"
        return {"id": task_id, "status": payload.state, "result": None, "omitted": omitted}
    try:
        meta = decode(backend, payload)
        status, result = str(meta["status"]), meta.get("result")
    except Exception as error:  # noqa: BLE001 - of a serializer, or for somebody else's value
        logger.warning(
            "what is stored for %s cannot be read: %r; the web process needs the same "
            "result_serializer and result_accept_content as the workers",
            task_id,
            error,
        )
        task = {"id": task_id, "status": states.FAILURE, "result": UNREADABLE}
        return {**task, "exc": "ResultsUnavailable"}
    if status in FAILED:
        task = failure(backend, task_id, status, result)
        if limits.tracebacks and meta.get("traceback"):
            task["traceback"] = str(meta["traceback"])
    elif status == states.SUCCESS:
        task = {"id": task_id, "status": status, **value_of(result, limits)}
    elif status == states.PENDING and meta.get("traceback") == FORGOTTEN:
        task = {"id": task_id, "status": states.REVOKED, "result": GONE}
        return {**task, "exc": "ResultsUnavailable", "gone": True}
    elif status == states.STARTED:
        # Its result is the worker's name and process id, which are no page's business.
        task = {"id": task_id, "status": status, "result": None}
    else:
        key = call_key(app, result)
        if key is not None:
            if not heard and is_lost(app, task_id, key):
                task = {"id": task_id, "status": states.FAILURE, "result": LOST}
                return {**task, "exc": "WorkerLostError", "lost": True}
            result = {name: value for name, value in result.items() if name != "key"}
        task = {"id": task_id, "status": status, **value_of(result, limits)}
    if payload is None and known_runtime(app) is not None:
        place = queue_of(app, task_id)
        if place is not None:
            task["queue"] = place
    wait = retry_after(result) if status == "PROGRESS" else None
    if wait is not None:
        task["retry_after"] = wait
    return task


def value_of(value: Any, limits: Limits) -> dict[str, Any]:
    """Return the result, encoded; or why it is left out."""
    try:
        encoded = encode(value)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        return {"result": None, "omitted": f"the result cannot be JSON: {error}"[:500]}
    if limits.max_result is not None and len(encoded) > limits.max_result:
        why = f"the result is too large to show: {len(encoded):,} bytes, of {limits.max_result:,}"
        return {"result": None, "omitted": why}
    return {"result": msgspec.Raw(encoded)}


def failure(backend: Backend, task_id: str, status: str, stored: Any) -> dict[str, Any]:
    """Return the message and the type of an exception, as the task raised it."""
    if stored is None:
        return {"id": task_id, "status": status, "result": "", "exc": "Exception"}
    try:
        error = backend.exception_to_python(stored)
        name, message = type(error).__name__, str(error)
    except Exception:  # noqa: BLE001 - an exception that cannot be made again
        fields = stored if isinstance(stored, Mapping) else {}
        name = str(fields.get("exc_type", "Exception"))
        message = plain_message(fields.get("exc_message", stored))
    return {"id": task_id, "status": status, "result": message[:LONGEST_MESSAGE], "exc": name}


def plain_message(said: Any) -> str:
    if isinstance(said, list | tuple):
        return ", ".join(map(str, said))
    return "" if said is None else str(said)


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


def call_key(app: Celery, result: object) -> str | None:
    """Return the key of the call, if this is a report of ours and not of the task's own making."""
    key = result.get("key") if isinstance(result, Mapping) else None
    if not isinstance(key, str):
        return None
    runtime = known_runtime(app)
    if runtime is None or not key.startswith(f"{runtime.settings.key_prefix}:"):
        return None
    return key


def is_lost(app: Celery, task_id: str, key: str) -> bool:
    """Whether the run has lost its worker: its lease is over, and nobody has taken its place."""
    runtime = known_runtime(app)
    if runtime is None:
        return False
    try:
        claim, now = runtime.store.look(key)
    except StoreError:
        return False  # the store has told of it; the task may well be running
    holder = claim.holder if claim is not None else None
    if holder is None or holder.state != "running" or holder.owner != task_id:
        return False
    return now >= holder.until


def retry_after(report: Any) -> float | None:
    """Return in how many seconds to ask again: later for a longer job, soon towards its end.

    None if the report says nothing of time: a client knows itself for how long it has waited.
    """
    if not isinstance(report, Mapping):
        return None
    remaining, elapsed = report.get("time_remaining"), report.get("elapsed")
    if is_number(remaining) and remaining >= 0:
        wait = remaining / 10
    elif is_number(elapsed) and elapsed >= 0:
        wait = max(elapsed / 10, 1.0)
    else:
        return None
    return round(min(max(wait, SOONEST), LATEST), 1)


def is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)
