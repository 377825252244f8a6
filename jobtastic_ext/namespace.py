"""What tells one deployment from another, so that two never meet in one store by accident.

The name of the app; where its broker and its results are, for a task's id means nothing in another
backend; Celery's `global_keyprefix` of both; and the queue that calls go to.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any
from urllib.parse import parse_qsl, unquote

import msgspec

#: Where servers listen, and what they serve, when a URL does not say.
PORTS = {"redis": "6379", "amqp": "5672", "sentinel": "26379", "db+postgresql": "5432"}
PORTS["db+mysql"] = "3306"
DATABASES = {"redis": "0", "amqp": "/", "sentinel": "0"}

#: The second port of a server, with TLS.
TLS = {"5671": "5672"}

#: Where Celery looks for its broker if nobody says.
BROKER = "amqp://"

#: Options of a transport, or of a backend, that tell two deployments on one server apart.
APART = ("global_keyprefix", "queue_name_prefix", "master_name")

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
    broker, backend = (
        conf.get(f"{one}_transport_options") or {} for one in ("broker", "result_backend")
    )
    mongo = conf.get("mongodb_backend_settings")
    parts: list[Any] = [
        main or "",
        place_of(getattr(conf, "broker_write_url", None) or conf.get("broker_url") or BROKER),
        place_of(getattr(conf, "result_backend", None) or conf.get("result_backend")),
        [str(broker.get(name) or "") for name in APART],
        [str(backend.get(name) or "") for name in APART],
        str(mongo.get("database") or "") if isinstance(mongo, Mapping) else "",
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
    scheme, _, rest = url.partition("://")  # an alias such as `rpc` is a scheme alone
    family = re.sub(r"^(db\+\w+)\+.*", r"\1", scheme.lower())  # without the driver
    family = FAMILIES.get(family, family)
    rest, _, query = rest.partition("?")
    rest = rest.rpartition("@")[2]
    options = dict(parse_qsl(query))
    said = options.get("virtual_host", "")
    if "socket" in scheme.lower():
        return f"socket {rest}/{said.strip('/') or '0'}"
    hosts, _, database = rest.partition("/")
    database = unquote(said or database).strip("/") if family in DATABASES else database
    named = [server(host, PORTS.get(family, "")) for host in hosts.lower().split(",")]
    return f"{family} {','.join(named)}/{database or DATABASES.get(family, '')}"


def server(host: str, port: str) -> str:
    name, _, said = host.rpartition(":") if re.search(r":\d+$", host) else (host, "", "")
    name = "127.0.0.1" if name in ("", "localhost", "[::1]") else name
    return f"{name}:{TLS.get(said, said) or port}"
