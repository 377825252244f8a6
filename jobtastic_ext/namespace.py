"""What tells one deployment from another, so that two never meet in one store by accident.

The name of the app; where its broker and its results are, for a task's id means nothing in another
backend; Celery's `global_keyprefix` of both; and the queue that calls go to.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any
from urllib.parse import unquote

import msgspec

__all__ = ("default_namespace", "place_of")

#: Where servers listen, and what they serve, when a URL does not say.
PORTS = {"redis": "6379", "amqp": "5672"}
DATABASES = {"redis": "0", "amqp": "/"}

#: One family of schemes is one kind of server.
FAMILIES = {
    "rediss": "redis",
    "redis+socket": "redis",
    "socket": "redis",
    "pyamqp": "amqp",
    "amqps": "amqp",
    "librabbitmq": "amqp",
}

LONGEST_NAME = 24


def default_namespace(conf: Any, main: str | None) -> str:
    """Return what every key of an app begins with, unless `jobtastic_key_prefix` says so."""
    parts = [
        main or "",
        place_of(getattr(conf, "broker_write_url", None) or conf.get("broker_url")),
        place_of(getattr(conf, "result_backend", None) or conf.get("result_backend")),
        prefix_in(conf.get("broker_transport_options")),
        prefix_in(conf.get("result_backend_transport_options")),
        str(conf.get("task_default_queue") or ""),
    ]
    digest = blake2b(msgspec.json.encode(parts), digest_size=6).hexdigest()
    name = re.sub(r"[^A-Za-z0-9_.-]", "_", main or "app")[:LONGEST_NAME]
    return f"jobtastic:{name}:{digest}"


def place_of(urls: str | Sequence[str] | None) -> str:
    """Return where a URL, or one of several, leads: hosts and database; no user, no options."""
    if urls is None:
        return ""
    each = urls.split(";") if isinstance(urls, str) else [str(url) for url in urls]
    return " ".join(sorted({one_place(url.strip()) for url in each if url.strip()}))


def one_place(url: str) -> str:
    scheme, found, rest = url.partition("://")
    family = FAMILIES.get(scheme.lower(), scheme.lower())
    if not found:
        return url
    rest = rest.partition("?")[0].rpartition("@")[2]
    if "socket" in scheme.lower():
        return f"socket {rest}"
    hosts, _, database = rest.partition("/")
    database = unquote(database).strip("/") if family in DATABASES else database
    named = [server(host, PORTS.get(family, "")) for host in hosts.lower().split(",")]
    return f"{family} {','.join(named)}/{database or DATABASES.get(family, '')}"


def server(host: str, port: str) -> str:
    name, _, said = host.rpartition(":") if re.search(r":\d+$", host) else (host, "", "")
    name = "127.0.0.1" if name in ("", "localhost", "[::1]") else name
    return f"{name}:{said or port}"


def prefix_in(options: Mapping[str, Any] | None) -> str:
    return str((options or {}).get("global_keyprefix") or "")
