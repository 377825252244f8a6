"""Arguments of a call as a text, for `arguments: last`: encoded and accepted as messages are."""

from __future__ import annotations

import base64
import json
from typing import Any

from celery.app.task import Task
from kombu.serialization import dumps, loads, prepare_accept_content


def packed(task: Task, arguments: tuple[Any, Any], serializer: str | None = None) -> str:
    """Return the arguments as a text.  Raises `kombu.exceptions.EncodeError`, as sending does."""
    conf, (args, kwargs) = task.app.conf, arguments
    given = [list(args or ()), dict(kwargs or {})]
    kind, encoding, payload = dumps(given, serializer or task.serializer or conf.task_serializer)
    binary = isinstance(payload, bytes)
    text = base64.b64encode(payload).decode() if binary else payload
    return json.dumps([kind, encoding, binary, text])


def unpacked(task: Task, text: str) -> tuple[list[Any], dict[str, Any]]:
    """Return what was packed, if this app accepts its kind; else raises as for a message."""
    kind, encoding, binary, payload = json.loads(text)
    accept = prepare_accept_content(task.app.conf.accept_content)
    data = base64.b64decode(payload) if binary else payload
    args, kwargs = loads(data, kind, encoding, accept=accept)
    return list(args), dict(kwargs)
