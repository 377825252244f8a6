"""What a message's header says of its call."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec import Struct, ValidationError, convert

#: The message header that carries a call's key and generation.
HEADER = "jobtastic"


class Header(Struct, frozen=True, kw_only=True):
    """What a message carries in `HEADER`."""

    #: The message's own id: a header handed on to another message is not meant for that one.
    id: str = ""
    key: str = ""
    gen: str = ""
    #: Where its caller sent it by name: exchange and routing key, or nothing.
    place: tuple[str, ...] = ()
    #: How often the message was put back to wait for another run.
    looks: int = 0
    #: Where it was parked last, and by which store time it would look by itself.
    line: str = ""
    due: int = 0
    #: Store time of the call.
    since: int = 0
    #: The call asked for a new run.
    refresh: bool = False
    #: A copy that was sent for the callers of a dead run.
    bare: bool = False
    #: A retry: the token of the run that sent it.
    after: str = ""
    #: It waits for a run of its own id.
    copy: bool = False
    #: It holds no claim, and its sender has a fallback: its arrival is remembered.
    guarded: bool = False


def read_header(raw: Any, key_head: str, task_id: str) -> Header:
    """Return the header of a message; an empty one if it is damaged, or of another task's keys."""
    try:
        header = convert(raw, Header)
    except ValidationError:
        return Header()
    own = header.id == task_id and header.key.startswith(key_head)
    return header if own else Header()


def foreign_key(raw: Any, head: str, task_id: str) -> str:
    """Return the key in a message's header if it was written under another head."""
    key = raw.get("key") if isinstance(raw, Mapping) and raw.get("id") == task_id else None
    return "" if not isinstance(key, str) or key.startswith(head) else key
