"""What a result backend holds for many ids, with a bound on the bytes that are read of it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Union

from celery import states
from celery.backends.base import Backend
from msgspec import Struct

from .kinds import is_outage

#: The traceback of a task in PENDING whose result was forgotten, for those who share it.
FORGOTTEN = "jobtastic: forgotten"

#: Bytes that are read of every value; most have no more.
HEAD = 65_536

#: So many are asked for at once where values come in whole: each answer shows that there are any.
AT_ONCE = 25

#: A request for many may read so many times what one result may have.
TOTAL = 4

#: How a state stands at the beginning of what Celery stores, in JSON, pickle and msgpack.
STATE = re.compile(rb'\A[^"]{0,30}"?status.{1,9}?([A-Z][A-Z_-]+)', re.DOTALL)


class Cut(Struct, frozen=True):
    """A value that is too large to be read: its size in bytes, and the state at its beginning.

    `state` is empty where the beginning does not tell it.
    """

    state: str
    size: int


#: As it is stored, or a decoded dict, or None if nothing is; or why this one cannot be had.
Payload = Union[bytes, str, Mapping[str, Any], Cut, Exception, None]  # noqa: UP007


def fetch(
    backend: Backend, ids: Sequence[str], most: int | None, heard: list[Payload] | None = None
) -> list[Payload]:
    """Return what the backend holds for each id; what goes wrong with one concerns that one alone.

    One question, whatever the number, where the backend can be asked for many.  Of a value in
    Redis that is longer than `most` bytes only the beginning is read, and of all together no more
    than four times as much; elsewhere that is looked at when it has been read.  `heard` is given
    each as it comes.
    """
    found: list[Payload] = [] if heard is None else heard
    found.clear()  # it is asked anew
    if not hasattr(backend, "get_key_for_task"):
        for task_id in ids:
            found.append(fetch_one(backend, task_id))
        return found
    keys = [backend.get_key_for_task(task_id) for task_id in ids]
    if most is not None and can_cut(backend):
        found += fetch_cut(backend.client, keys, most)
    if not found or any(type(one).__name__ == "NoPermissionError" for one in found):
        found.clear()
        step = len(keys) if hasattr(backend, "connparams") else AT_ONCE  # Redis: one command
        for start in range(0, len(keys), step):
            found += bounded(fetch_whole(backend, keys[start : start + step]), most)
    return found


def fetch_one(backend: Backend, task_id: str) -> Payload:
    try:
        meta: Mapping[str, Any] = backend._get_task_meta_for(task_id)
    except Exception as error:
        if is_outage(error):
            raise
        return error
    return meta


def fetch_whole(backend: Backend, keys: Sequence[Any]) -> list[Any]:
    if len(keys) == 1:
        return [backend.get(keys[0])]
    try:
        found = backend.mget(keys)
    except NotImplementedError:
        return [backend.get(key) for key in keys]
    if hasattr(found, "items"):  # memcached's client answers with a dict
        by_key = {backend.key_t(key): value for key, value in found.items()}
        return [by_key.get(backend.key_t(key)) for key in keys]
    return list(found)


def bounded(found: list[Any], most: int | None) -> list[Payload]:
    """Put a `Cut` in the place of each value that is longer than `most`."""
    return [
        cut(value, len(value))
        if most is not None and isinstance(value, bytes | str) and len(value) > most
        else value or None  # a file that is being written is empty for a moment
        for value in found
    ]


def can_cut(backend: Backend) -> bool:
    """Whether a part of a value can be asked for: of Redis, whose client gives it as bytes."""
    if not hasattr(backend, "connparams"):
        return False
    client = backend.client
    return hasattr(client, "getrange") and not client.get_encoder().decode_responses


def fetch_cut(client: Any, keys: Sequence[Any], most: int) -> list[Payload]:
    found = ask_all(client, [("getrange", key, 0, HEAD - 1) for key in keys])
    # A key that is missing, and one that holds something else, are errors or empty.
    values: list[Payload] = [value or None for value in found]
    longer = [n for n, value in enumerate(found) if isinstance(value, bytes) and len(value) >= HEAD]
    if not longer:
        return values
    sizes = ask_all(client, [("strlen", keys[n]) for n in longer])
    left, wanted = TOTAL * most, []
    for n, size in zip(longer, sizes, strict=True):
        if isinstance(size, int) and size <= min(most, left):
            left -= size
            wanted.append(n)
        else:
            values[n] = cut(found[n], size)
    whole = ask_all(client, [("getrange", keys[n], 0, -1) for n in wanted]) if wanted else []
    for n, value in zip(wanted, whole, strict=True):
        values[n] = value
    return values


def ask_all(client: Any, commands: list[tuple[Any, ...]]) -> list[Any]:
    """Send commands at once; an answer that is an error stands in its place."""
    if len(commands) == 1:
        name, *arguments = commands[0]
        try:
            return [getattr(client, name)(*arguments)]
        except Exception as error:
            if "ResponseError" in (kind.__name__ for kind in type(error).__mro__):
                return [error]
            raise
    pipe = client.pipeline(transaction=False)
    for name, *arguments in commands:
        getattr(pipe, name)(*arguments)
    answers: list[Any] = pipe.execute(raise_on_error=False)
    return answers


def cut(head: bytes | str, size: int) -> Cut:
    raw = head[:200].encode() if isinstance(head, str) else bytes(head[:200])
    found = STATE.match(raw)
    return Cut(found.group(1).decode() if found else "", size)


def decode(backend: Backend, payload: Payload, task_id: str | None = None) -> Mapping[str, Any]:
    """Return Celery's meta; ``{"status": "PENDING"}`` for nothing.

    Raises what the decoder raises, `ValueError` for what is no meta, or that of another task than
    `task_id`, and what stands for the value.
    """
    if payload is None:
        return {"status": states.PENDING}
    if isinstance(payload, Exception):
        raise payload
    if isinstance(payload, Cut):
        raise ValueError(f"{payload.size:,} bytes are too many to be read")
    meta = payload if isinstance(payload, Mapping) else backend.decode(payload)
    if not isinstance(meta, Mapping) or not isinstance(meta.get("status"), str):
        raise ValueError("what is stored is not what Celery stores for a task")
    if task_id is not None and meta.get("task_id", task_id) != task_id:
        raise ValueError("what was read is the result of another task")
    return meta
