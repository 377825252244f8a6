"""What a result backend holds is foreign: here it is decoded, bounded and made plain.

Nothing else touches a payload.  What comes out has a type and a limit for every field, and can be
encoded; what cannot be understood comes out as a failure that says so.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping
from datetime import datetime, timezone
from itertools import accumulate
from typing import Any

import msgspec
from celery import states
from celery.backends.base import Backend

from ..results.payloads import FORGOTTEN, Cut, decode
from .public import PRIVATE, is_public, names_of

logger = logging.getLogger("jobtastic_ext")

#: The longest of each text, in characters; more is cut.
LONGEST_STATE, LONGEST_TYPE, LONGEST_MESSAGE, LONGEST_TRACEBACK = 100, 200, 10_000, 100_000

#: How deep lists and objects may lie in each other: more is more than a page's parser may take.
DEEPEST = 200

#: The largest number that JSON's readers know; a number of so many digits may be larger.
LARGEST, DIGITS = 1.7976931348623157e308, 309

GONE = "The result of this task was forgotten; it is gone."

UNREADABLE = "What was stored for this task cannot be read."

#: States whose stored result is an exception.
FAILED = (states.FAILURE, states.REVOKED, states.RETRY)

SURROGATES = re.compile("[\ud800-\udfff]")

#: A key of ours, as a report carries it: printable, of at most 250 bytes, with a digest at its end.
KEY = re.compile(r"(?=.{1,250}\Z)[!-~]+:[0-9a-f]{32}")

STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"')
ALL_ZEROS = bytes.maketrans(b"123456789", b"000000000")
STEPS = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}
NO_BRACKETS = bytes(set(range(256)) - STEPS.keys() - {ord('"')})

encode = msgspec.json.Encoder(order="deterministic").encode


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """How much a status tells, and how long it may take."""

    #: A failure comes with its traceback: for yourself, never for the world.
    tracebacks: bool = False
    #: The longest result, in bytes of JSON, that is handed on; None for any.
    max_result: int | None = 5_000_000
    #: Seconds that the result backend may take.
    timeout: float = 1.0
    #: Whose exceptions' own words are shown: "all", or "public" for those that are named or marked.
    messages: str = "all"
    public_exceptions: Iterable[type[BaseException] | str] = ()
    #: Their names; None for all.
    public: frozenset[str] | None = None

    def __post_init__(self) -> None:
        """Raises `ConfigurationError`."""
        public = names_of(self.messages, self.public_exceptions)
        msgspec.structs.force_setattr(self, "public", public)


class Stored(msgspec.Struct, frozen=True, kw_only=True):
    """The state of a task, plain."""

    status: str
    #: JSON: the value, the report, or the message of a failure.
    result: msgspec.Raw = msgspec.Raw(b"null")
    #: The type of the exception, of a failure.
    exc: str | None = None
    #: The words of the exception are not for everybody.
    private: bool = False
    #: Which attempt has failed, from 1 on, if Celery keeps it (`result_extended`).
    attempt: int | None = None
    #: When the task ended, in seconds since 1970, by the clock of its worker.
    ended: float | None = None
    #: The result was dropped on purpose.
    gone: bool = False
    #: Why the result is left out.
    omitted: str | None = None
    traceback: str | None = None
    #: Of a report: the key of the call, and its seconds, each if it is one.
    key: str | None = None
    remaining: float | None = None
    elapsed: float | None = None
    #: It is one of our own, of a run that says anew how far it is, or how long it takes, even if
    #: nothing changes.
    renewed: bool = False


class Unshowable(Exception):
    """A value that no page can be shown."""


def read_stored(backend: Backend, task_id: str, payload: Any, limits: Limits) -> Stored:
    """Return the state that a payload stands for; None stands for none.  Raises nothing."""
    try:
        return plain(backend, task_id, payload, limits)
    except Exception as error:  # noqa: BLE001 - of a serializer, or of whatever the value is
        logger.warning(
            "what is stored for %s cannot be read: %s; the web process needs the same "
            "result_serializer and result_accept_content as the workers",
            task_id,
            described(error),
        )
    said = msgspec.Raw(encode(UNREADABLE))
    return Stored(status=states.FAILURE, result=said, exc="ResultsUnavailable")


def plain(backend: Backend, task_id: str, payload: Any, limits: Limits) -> Stored:
    if isinstance(payload, Cut) and payload.state:
        return cut(payload)
    meta = decode(backend, payload, task_id)
    status, result = text(meta["status"], LONGEST_STATE), meta.get("result")
    if not status:
        raise ValueError("a state without a name")
    if status in FAILED:
        return failed(backend, task_id, status, meta, limits)
    if status == states.PENDING and meta.get("traceback") == FORGOTTEN:
        said = msgspec.Raw(encode(GONE))
        return Stored(status=states.REVOKED, result=said, exc="ResultsUnavailable", gone=True)
    if status == states.STARTED:
        # Its result is the worker's name and process id, which are no page's business.
        return Stored(status=status)
    found: dict[str, Any] = {}
    if status != states.SUCCESS and isinstance(result, Mapping):
        result, found = report(result)
    try:
        value = json_of(result, limits.max_result, mend=status != states.SUCCESS)
    except Unshowable as error:
        return Stored(status=status, omitted=text(error, 500), **found)
    if status == states.SUCCESS:
        found["ended"] = moment(meta.get("date_done"))
    return Stored(status=status, result=value, **found)


def failed(
    backend: Backend, task_id: str, status: str, meta: Mapping[str, Any], limits: Limits
) -> Stored:
    """Return the state of a task that raised, with its words if they are for whoever asks."""
    stored, trace = meta.get("result"), meta.get("traceback") if limits.tracebacks else None
    name, message, error = failure(backend, stored)
    retries = meta.get("retries")
    attempt = retries + 1 if isinstance(retries, int) and 0 <= retries < LARGEST else None
    if not is_public(limits.public, stored, error):
        said = msgspec.Raw(encode(PRIVATE.format(id=task_id)))
        return Stored(status=status, result=said, private=True, attempt=attempt)
    return Stored(
        status=status,
        result=msgspec.Raw(encode(text(message, LONGEST_MESSAGE))),
        exc=text(name, LONGEST_TYPE),
        traceback=text(trace, LONGEST_TRACEBACK) if trace else None,
        attempt=attempt,
    )


def cut(payload: Cut) -> Stored:
    """Return what is known of a value that is too large to be read."""
    status = text(payload.state, LONGEST_STATE)
    fails = status in FAILED
    return Stored(
        status=status,
        result=msgspec.Raw(b'""' if fails else b"null"),
        exc="Exception" if fails else None,
        omitted=f"the result is too large to show: {payload.size:,} bytes",
    )


def json_of(value: object, most: int | None, *, mend: bool = False) -> msgspec.Raw:
    """Return a value as JSON that every reader can take.  Raises `Unshowable`.

    `mend`: what is wrong in a part of it does not hide the others.
    """
    if mend:
        try:
            return json_of(value, most)
        except Unshowable:
            return json_of(mended(value), most)
    try:
        encoded = encode(value)
        # Not only what JSON cannot hold: a `Raw` among the values is put in as it is.
        msgspec.json.decode(encoded, type=msgspec.Raw)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise Unshowable(f"the result cannot be JSON: {described(error)}") from error
    if most is not None and len(encoded) > most:
        raise Unshowable(f"the result is too large to show: {len(encoded):,} bytes, of {most:,}")
    if has_huge_number(encoded):
        raise Unshowable("the result cannot be JSON: a number is too large")
    if depth(encoded) > DEEPEST:
        raise Unshowable(f"the result cannot be JSON: it is deeper than {DEEPEST} levels")
    return msgspec.Raw(encoded)


def has_huge_number(encoded: bytes) -> bool:
    """Whether a number has more digits than a float can be large."""
    if b"0" * DIGITS not in encoded.translate(ALL_ZEROS):
        return False
    return b"0" * DIGITS in STRING.sub(b"", encoded).translate(ALL_ZEROS)


def depth(encoded: bytes) -> int:
    """Return how deep lists and objects lie in each other; a few levels more where it is little."""
    if encoded.count(b"[") + encoded.count(b"{") <= DEEPEST:
        return 0
    bare = encoded.replace(rb"\\", b"").replace(rb"\"", b"").translate(None, NO_BRACKETS)
    brackets = b"".join(bare.split(b'"')[::2])
    shallow = 3
    for _ in range(shallow):  # most of them
        brackets = brackets.replace(b"[]", b"").replace(b"{}", b"")
    return shallow + max(accumulate(map(STEPS.__getitem__, brackets)), default=0)


def report(said: Mapping[Any, Any]) -> tuple[Any, dict[str, Any]]:
    """Return what a page may see of a report, and what is known by it."""
    remaining = number(said.get("time_remaining"))
    found: dict[str, Any] = {
        "remaining": remaining,
        "elapsed": number(said.get("elapsed")),
        "renewed": "begun" in said
        and (said.get("total") is not None or (remaining is not None and remaining >= 0)),
    }
    key = said.get("key")
    if isinstance(key, str) and KEY.fullmatch(key):
        # By the key one could find out the arguments.
        found["key"] = key
        said = {name: value for name, value in said.items() if name != "key"}
    return said, found


def mended(value: Any, room: int = DEEPEST) -> Any:
    """Return a value without what no page can read: odd characters, numbers beyond a float."""
    if room <= 0:
        return None
    if isinstance(value, str):
        return text(value, len(value))
    if isinstance(value, int) and not isinstance(value, bool):
        return value if -LARGEST <= value <= LARGEST else None
    if isinstance(value, Mapping):
        pairs = list(value.items())
        return {text(name, LONGEST_MESSAGE): mended(each, room - 1) for name, each in pairs}
    if isinstance(value, list | tuple | set | frozenset):
        return [mended(each, room - 1) for each in value]
    try:
        return msgspec.Raw(json_of(value, LONGEST_MESSAGE))
    except Unshowable:
        return None


def failure(backend: Backend, stored: Any) -> tuple[str, str, BaseException | None]:
    """Return the type and the message of an exception, as the task raised it, and itself."""
    if stored is None:
        return "Exception", "", None
    try:
        error = backend.exception_to_python(stored)
        return type(error).__name__, str(error), error
    except Exception:  # noqa: BLE001 - an exception that cannot be made again
        fields = stored if isinstance(stored, Mapping) else {}
        said = fields.get("exc_message", stored)
        if isinstance(said, list | tuple):
            said = ", ".join(text(one, LONGEST_MESSAGE) for one in said[:100])
        return fields.get("exc_type") or "Exception", "" if said is None else said, None


def moment(written: object) -> float | None:
    """Return a date that Celery has written, in seconds since 1970."""
    try:
        date = datetime.fromisoformat(written) if isinstance(written, str) else written
        if not isinstance(date, datetime):
            return None
        return number((date if date.tzinfo else date.replace(tzinfo=timezone.utc)).timestamp())
    except (ValueError, OverflowError):
        return None


def text(value: object, longest: int) -> str:
    """Return what a value says, cut, in characters that can be encoded."""
    return SURROGATES.sub("\ufffd", str(value)[:longest])


def described(error: BaseException) -> str:
    """Return what an error says, on one line."""
    try:
        return text(f"{type(error).__name__}: {error}", 300).encode("unicode_escape").decode()
    except Exception:  # noqa: BLE001 - one that cannot say it
        return type(error).__name__


def number(value: object) -> float | None:
    """Return a number that is one to a page, too; else None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if -LARGEST <= value <= LARGEST else None
