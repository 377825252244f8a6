"""What may stand in a result backend: values that somebody, or some accident, put there.

Each is the bytes of a whole meta, as a key-value backend holds them, or the meta itself, whose
parts a database holds in columns.
"""

from __future__ import annotations

import base64
import json
import pickle
from typing import Any

from celery import Celery

#: A file name that is no UTF-8, as Python reads it: what ``open("bad\xff.txt")`` fails with.
ODD = "bad\udcff.txt"

HUGE = 10**400


def nest(depth: int) -> str:
    return "[" * depth + "]" * depth


def meta(status: Any, result: Any = None, **more: Any) -> dict[str, Any]:
    return {"status": status, "result": result, "traceback": None, "children": [], **more}


def failed(kind: Any, message: Any, module: Any = "builtins", **more: Any) -> dict[str, Any]:
    stored = {"exc_type": kind, "exc_message": message, "exc_module": module}
    return meta("FAILURE", stored, **more)


def told(**report: Any) -> dict[str, Any]:
    return meta("PROGRESS", {"progress_percent": 50.0, "time_remaining": 3.0, **report})


METAS: dict[str, dict[str, Any]] = {
    # Failures
    "message with a lone surrogate": failed("FileNotFoundError", [2, "none", ODD]),
    "type with a lone surrogate": failed(ODD, ["no"], None),
    "module with a lone surrogate": failed("Odd", ["no"], ODD),
    "only surrogates": failed("E", ["\ud800" * 50]),
    "type that is a number": failed(7, ["no"]),
    "type that is a list": failed(["a"], ["no"]),
    "type that is empty": failed("", ["no"], None),
    "type of 1 MB": failed("E" * 1_000_000, ["no"], None),
    "type that is a function": failed("system", ["true"], "os"),
    "type that is a module's module": failed("path.join", ["a"], "os"),
    "message of 1 MB": failed("ValueError", ["x" * 1_000_000]),
    "message that is a number": failed("ValueError", HUGE),
    "message with a number of 400 digits": failed("ValueError", [HUGE]),
    "message that is nested": failed("ValueError", [[[[["x"]]]]]),
    "message of 100,000 parts": failed("ValueError", list(range(100_000))),
    "message that is missing": meta("FAILURE", {"exc_type": "ValueError"}),
    "failure that is empty": meta("FAILURE", {}),
    "failure that is nothing": meta("FAILURE"),
    "failure that is a text": meta("FAILURE", f"no {ODD}"),
    "failure that is a list": meta("FAILURE", [1, [2, ODD]]),
    "failure that is a number": meta("FAILURE", HUGE),
    "an exception that wants other arguments": failed(
        "UnicodeDecodeError", ["utf-8", "not bytes", 0]
    ),
    "an exit": failed("SystemExit", [1]),
    "an interrupt": failed("KeyboardInterrupt", []),
    "traceback with a lone surrogate": failed("ValueError", ["no"], traceback=ODD),
    "traceback that is a number": failed("ValueError", ["no"], traceback=7),
    "revoked with odd text": meta("REVOKED", {"exc_type": "R", "exc_message": ODD}),
    "retry with odd text": meta("RETRY", {"exc_type": "Retry", "exc_message": [ODD, HUGE]}),
    # States
    "state with a lone surrogate": meta(f"LOADING {ODD}", {"n": 1}),
    "state of 1 MB": meta("S" * 1_000_000, 1),
    "state with markup": meta("<img src=x onerror=alert(1)>", 1),
    "state with line ends": meta("A\r\n\r\ndata: B", 1),
    "state that is empty": meta("", 1),
    "state that is a number": meta(7, 1),
    "state that is a list": meta(["SUCCESS"], 1),
    "state that is nothing": meta(None, 1),
    "state that is an object": meta({"a": 1}, 1),
    "pending with a result": meta("PENDING", ODD),
    "started with odd things": meta("STARTED", {"pid": HUGE, "hostname": ODD}),
    # Values
    "value with a lone surrogate": meta("SUCCESS", [ODD]),
    "value with an odd key": meta("SUCCESS", {ODD: 1}),
    "value of 400 digits": meta("SUCCESS", HUGE),
    "value of 400 digits among others": meta("SUCCESS", {"a": [1, -HUGE]}),
    "value of 400 digits as text": meta("SUCCESS", str(HUGE)),
    "value that is no number": meta("SUCCESS", [float("nan"), float("inf"), -float("inf")]),
    "value 300 deep": meta("SUCCESS", json.loads(nest(300))),
    "value 300 deep in text": meta("SUCCESS", nest(300)),
    "value with all control characters": meta("SUCCESS", "".join(map(chr, range(160)))),
    "value with line separators": meta("SUCCESS", "\u2028\u2029</script><script>alert(1)</script>"),
    "value of 6 MB": meta("SUCCESS", "x" * 6_000_000),
    "value that names a type": meta("SUCCESS", {"__type__": "nonsense", "__value__": 1}),
    "value that is a bad date": meta("SUCCESS", {"__type__": "datetime", "__value__": ODD}),
    "value that is a bad decimal": meta("SUCCESS", {"__type__": "decimal", "__value__": [1]}),
    "value that poisons prototypes": meta("SUCCESS", {"__proto__": {"x": 1}, "constructor": 1}),
    # Reports
    "report with an odd message": told(message=ODD),
    "report with an odd name": told(**{ODD: 1}),
    "report of 400 digits": told(time_remaining=HUGE, elapsed=HUGE, progress_percent=HUGE),
    "report of -400 digits": told(time_remaining=-HUGE, elapsed=-HUGE),
    "report that is no number": told(time_remaining=float("nan"), elapsed=float("inf")),
    "report of words": told(time_remaining="soon", elapsed=[], progress_percent={}),
    "report of true": told(time_remaining=True, elapsed=False),
    "report 300 deep": told(extra=json.loads(nest(300))),
    "report that is a text": meta("PROGRESS", ODD),
    "report that is a list": meta("PROGRESS", [HUGE]),
    "report that is nothing": meta("PROGRESS"),
    "report of another state": meta("UPLOADING", {"file": ODD, "size": HUGE}),
    "key with a lone surrogate": told(key=f"{{prefix}}:{ODD}:" + "0" * 32),
    "key of 1 MB": told(key="{prefix}:" + "k" * 1_000_000 + ":" + "0" * 32),
    "key with a line end": told(key="{prefix}:a\r\nFLUSHALL\r\n:" + "0" * 32),
    "key with a NUL": told(key="{prefix}:a\0:" + "0" * 32),
    "key that is empty": told(key=""),
    "key that is a list": told(key=["{prefix}:a"]),
    "key that is only the prefix": told(key="{prefix}:"),
    "key of something else": told(key="{prefix}:queue"),
    "key of nobody": told(key="{prefix}:a:" + "0" * 32),
}

BYTES: dict[str, bytes] = {
    "nothing": b"",
    "a space": b" ",
    "no JSON": b"{",
    "cut in the middle": json.dumps(meta("SUCCESS", "abc")).encode()[:-5],
    "null": b"null",
    "a list": b"[]",
    "a number": b"7",
    "a text": b'"SUCCESS"',
    "an empty object": b"{}",
    "no state": b'{"result": 1}',
    "two states": b'{"status": "SUCCESS", "status": "FAILURE", "result": 1}',
    "no UTF-8": b'{"status": "SUCCESS", "result": "\xff\xfe"}',
    "UTF-16": json.dumps(meta("SUCCESS", 1)).encode("utf-16"),
    "NUL": b"\0" * 100,
    "random": bytes(range(256)) * 4,
    "100,000 deep": b'{"status": "SUCCESS", "result": ' + nest(100_000).encode() + b"}",
    "5,000 digits": b'{"status": "SUCCESS", "result": ' + b"9" * 5_000 + b"}",
    "an exponent": b'{"status": "PROGRESS", "result": {"time_remaining": 1e999}}',
    "pickle": pickle.dumps(meta("SUCCESS", 1)),
    "base64": base64.b64encode(b"SUCCESS"),
    "markup": b"<script>alert(1)</script>",
    "a status page": b"HTTP/1.1 200 OK\r\n\r\n",
}


def put(app: Celery, task_id: str, value: dict[str, Any] | bytes) -> bool:
    """Put a value where the backend would look for this task; False if it cannot hold it."""
    backend = app.backend
    prefix = app.conf.jobtastic_key_prefix or "jobtastic"
    if hasattr(backend, "get_key_for_task"):
        if isinstance(value, dict):
            value = json.dumps(value).replace("{prefix}", prefix).encode()
        backend.set(backend.get_key_for_task(task_id), value)
        return True
    from celery.backends.database.models import TaskExtended

    made = TaskExtended(task_id)
    if isinstance(value, bytes):
        made.status, made.result = "SUCCESS", value
    else:
        dumped = json.dumps(value["result"]).replace("{prefix}", prefix)
        made.status, made.result = value["status"], dumped.encode()
        made.traceback = value["traceback"]
    session = backend.ResultSession()
    try:
        session.add(made)
        session.commit()
    except Exception:  # noqa: BLE001 - a column that is too short, characters that it has not
        session.rollback()
        return False
    finally:
        session.close()
    return True
