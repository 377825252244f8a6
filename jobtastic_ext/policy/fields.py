"""What a task's policy may say: one table of fields, each with its reader and its JSON Schema."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any, get_args

from msgspec import UNSET, Struct
from msgspec.structs import fields

from .converters import CONVERTERS, Converter, ConverterError, load_converter
from .document import Node
from .model import (
    MemleakAction,
    OnBrokerError,
    OnDuplicate,
    OnStoreError,
    Significant,
    TaskPolicy,
    UniqueUntil,
    Whose,
)
from .problems import Report, did_you_mean, quoted

#: 100 years, in seconds.
LONGEST = 100 * 365.25 * 86_400
#: Call sites that one log line may name.
MOST_SITES = 100

DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d)")
UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3_600, "d": 86_400}

VARYING = r"headers|queue|headers\.[^\n]+"

A_DURATION = "a duration: seconds, or such as `90s`, `5m`, `1h`, `7d`, `forever`"
A_WAIT = "a duration: seconds, or such as `90s`, `5m`, `1h`, `7d`"
A_DURATION_OR_NEVER = f"{A_DURATION}, or -1 for never"
AN_ARGUMENT = "an argument's `name`, or `[name, converter]`"

Schema = dict[str, Any]
_DEFAULTS: dict[str, Any] = {field.name: field.default for field in fields(TaskPolicy)}


class Refused(Exception):
    """The value is not what its field takes; the message says what was expected."""


class Kind(Struct, frozen=True):
    """What may stand in a field: a reader, which raises `Refused`, and the same as JSON Schema."""

    read: Callable[[Node, Report], Any]
    schema: Schema


class Field(Struct, frozen=True):
    """One field of the policy file."""

    name: str
    kind: Kind
    meaning: str
    #: May it stand under ``defaults``?
    common: bool = True

    def read(self, node: Node, report: Report) -> Any:
        """Give the value for `TaskPolicy`, or report the mistake and give `UNSET`."""
        return attempt(self.kind.read, node, report)

    @property
    def default(self) -> Any:
        """What `TaskPolicy` holds where the policy file is silent."""
        return _DEFAULTS[self.name]

    @property
    def written_default(self) -> Any:
        """The default as one would write it in the file; None where silence cannot be written."""
        if self.default is None:
            return -1 if NEVER in self.kind.schema.get("anyOf", ()) else None
        if isinstance(self.default, tuple):
            return list(self.default)
        return int(self.default) if isinstance(self.default, float) else self.default

    @property
    def schema(self) -> Schema:
        default = self.written_default
        given = {} if default is None else {"default": default}
        return {"description": self.meaning, **self.kind.schema, **given}


def attempt(read: Callable[[Node, Report], Any], node: Node, report: Report) -> Any:
    """Read a node, or report what was expected in its place and give `UNSET`."""
    try:
        return read(node, report)
    except Refused as expected:
        node.refuse(report, str(expected))
        return UNSET


def is_number(node: Node, least: float, most: float) -> bool:
    # Compared before float(): a whole number may be too large for one.
    return node.kind == "number" and bool(least <= node.value <= most)


def duration(node: Node, expected: str = A_DURATION) -> float:
    """Give a duration in seconds; `math.inf` for ``forever``."""
    match = DURATION.fullmatch(node.text) if node.kind == "text" else None
    if node.kind == "text" and node.text == "forever":
        return math.inf
    if not match and node.kind != "number":
        raise Refused(expected + _hint(node))
    seconds = float(match[1]) * UNITS[match[2]] if match else node.value
    if seconds > LONGEST:
        raise Refused(f"{expected}; that is more than 100 years: write `forever`")
    if not seconds >= 0:  # or it is no number
        raise Refused(expected)
    return float(seconds)


def _hint(node: Node) -> str:
    """Say how to write what was probably meant by this duration."""
    text, tidy = node.text, re.sub(r"\s", "", node.text.lower())
    if node.kind == "odd number" and ":" in text:  # YAML 1.1 takes it for base 60
        seconds = 0.0
        for part in text.replace("_", "").lstrip("+-").split(":"):
            seconds = seconds * 60 + float(part)
        return f"; YAML reads it in base 60: write `{seconds:.15g}s`"
    if node.kind == "odd number":
        return "; write it in plain decimal, without a leading zero"
    if node.kind != "text":
        return ""
    if re.fullmatch(r"[0-9]+(\.[0-9]+)?", text):
        return f"; for seconds, write {quoted(text)} without quotes"
    if tidy == "forever" or DURATION.fullmatch(tidy):
        return f"; did you mean {quoted(tidy)}?"
    if re.match(r"[0-9.]+[a-z]", tidy):
        return "; write one number with one unit: `ms`, `s`, `m`, `h` or `d`"
    return did_you_mean(tidy, ["forever"])


def finite(node: Node, report: Report) -> float:
    seconds = duration(node, A_WAIT)
    if math.isinf(seconds):
        raise Refused(f"{A_WAIT}; `forever` would never begin")
    return seconds


def cache_duration(node: Node, report: Report) -> float | None:
    if is_number(node, -1, -1):
        return None
    return duration(node, A_DURATION_OR_NEVER) or math.inf


def failure_cache_duration(node: Node, report: Report) -> float | None:
    if is_number(node, -1, -1):
        return None
    seconds = duration(node, A_DURATION_OR_NEVER)
    if seconds == 0:
        raise Refused(f"{A_DURATION_OR_NEVER}; 0 could mean either")
    return seconds


def threshold(node: Node, report: Report) -> float | None:
    if is_number(node, -1, -1):
        return None
    if is_number(node, 0, 1e15):
        return float(node.value)
    raise Refused("a number of MB such as `50`, 0 for every growth, or -1 for off")


def sites(node: Node, report: Report) -> int:
    if is_number(node, 0, MOST_SITES) and isinstance(node.value, int):
        return node.value
    raise Refused(f"a number of call sites from 0 (off) to {MOST_SITES}, such as `5`")


def varying(node: Node, report: Report) -> Any:
    what = "a list of `headers`, `queue` or `headers.NAME`"
    if node.kind != "list":
        raise Refused(f"{what}; for arguments alone, write `[]`")

    def word(item: Node, report: Report) -> str:
        if item.kind == "text" and re.fullmatch(VARYING, item.text):
            return item.text
        raise Refused(what + did_you_mean(item.text, ("headers", "queue")))

    found = [attempt(word, item, report) for item in node.items]
    return UNSET if UNSET in found else tuple(dict.fromkeys(found))


def prefix(node: Node, report: Report) -> str:
    if node.kind == "text" and node.text:
        return node.text
    raise Refused("a prefix: text that is not empty")


def switch(node: Node, report: Report) -> bool:
    if node.kind == "bool":
        return bool(node.value)
    raise Refused("`true` or `false`")


def arguments(node: Node, report: Report) -> Any:
    if node.kind != "list":
        raise Refused(f"a list, each item {AN_ARGUMENT}")
    first: dict[str, Node] = {}
    found = []
    for item in node.items:
        argument = attempt(_argument, item, report)
        found.append(argument)
        if argument is UNSET:
            continue
        if argument.name in first:
            where = first[argument.name].place
            message = f"found the argument {quoted(argument.name)} twice, expected it once"
            report.add(item.place, f"{message}; the first is {where}")
        first.setdefault(argument.name, item)
    return tuple(found) if len(first) == len(node.items) else UNSET


def _argument(node: Node, report: Report) -> Any:
    if node.kind == "list" and len(node.items) == 2:
        name = attempt(_argument_name, node.items[0], report)
        converter = attempt(_converter, node.items[1], report)
        return UNSET if UNSET in (name, converter) else Significant(name, *converter)
    if node.kind == "list":
        report.add(node.place, f"found a list of {len(node.items)}, expected {AN_ARGUMENT}")
        return UNSET
    if node.kind == "mapping" and len(node.entries) == 1:
        name, below = (part.text for part in node.entries[0])
        raise Refused(f"{AN_ARGUMENT}; write " + quoted(f"[{name}, {below or 'json'}]"))
    return Significant(_argument_name(node, report))


def _argument_name(node: Node, report: Report) -> str:
    if node.kind == "text" and node.text:
        return node.text
    raise Refused(AN_ARGUMENT + f"; quote it: '{node.text}'" * (node.kind == "bool"))


def _converter(node: Node, report: Report) -> tuple[str, Converter]:
    if node.kind == "object" and callable(node.value):
        return _spec_of(node.value), node.value
    hint = ""
    if node.kind == "text":
        try:
            return node.text, load_converter(node.text)
        except ConverterError as exc:
            hint = f"; {exc}" if str(exc) else did_you_mean(node.text, CONVERTERS)
    words = ", ".join(f"`{name}`" for name in CONVERTERS)
    raise Refused(f"a converter: {words} or `package.module:callable`{hint}")


def _spec_of(converter: Converter) -> str:
    for name, known in CONVERTERS.items():
        if converter is known:
            return name
    kind = converter if hasattr(converter, "__qualname__") else type(converter)
    return f"{kind.__module__}:{kind.__qualname__}"


def one_of(literal: Any) -> Kind:
    """A field that takes one of some words."""
    choices: tuple[str, ...] = get_args(literal)
    *first, last = [f"`{choice}`" for choice in choices]

    def read(node: Node, report: Report) -> str:
        if node.kind == "text" and node.text in choices:
            return node.text
        raise Refused(f"{', '.join(first)} or {last}" + did_you_mean(node.text, choices))

    return Kind(read, {"enum": list(choices)})


def finite_schema() -> Schema:
    text = {"type": "string", "pattern": f"^{DURATION.pattern}$"}
    return {"anyOf": [{"type": "number", "minimum": 0, "maximum": LONGEST}, text]}


def duration_schema(*further: Schema, zero: str = "minimum") -> Schema:
    text = {"type": "string", "pattern": f"^({DURATION.pattern}|forever)$"}
    return {"anyOf": [{"type": "number", zero: 0, "maximum": LONGEST}, *further, text]}


NEVER = {"const": -1}
TEXT = {"type": "string", "minLength": 1}
PAIR = {
    "type": "array",
    "prefixItems": [
        TEXT,
        {"anyOf": [{"enum": list(CONVERTERS)}, {"type": "string", "pattern": ":"}]},
    ],
    "minItems": 2,
    "maxItems": 2,
}

A_TIME = Kind(lambda node, report: duration(node), duration_schema())
A_PAUSE = Kind(finite, finite_schema())
A_CACHE = Kind(cache_duration, duration_schema(NEVER))
A_FAILURE_CACHE = Kind(failure_cache_duration, duration_schema(NEVER, zero="exclusiveMinimum"))
A_PREFIX = Kind(prefix, TEXT)
A_THRESHOLD = Kind(threshold, {"anyOf": [{"type": "number", "minimum": 0}, NEVER]})
A_SWITCH = Kind(switch, {"type": "boolean"})
A_VARY = Kind(
    varying,
    {"type": "array", "items": {"type": "string", "pattern": f"^({VARYING})$"}},
)
SITES = Kind(sites, {"type": "integer", "minimum": 0, "maximum": MOST_SITES})
ARGUMENTS = Kind(
    arguments, {"type": "array", "items": {"anyOf": [TEXT, PAIR]}, "uniqueItems": True}
)

#: Every field, in the order of the documentation.
FIELDS: dict[str, Field] = {
    field.name: field
    for field in (
        Field(
            "significant_kwargs",
            ARGUMENTS,
            "The arguments that tell calls apart, each `name` or `[name, converter]`; without it, "
            "every argument counts.",
            common=False,
        ),
        Field(
            "herd_avoidance_timeout",
            A_TIME,
            "The longest that identical calls wait for one run, counted from its start; 0 = no "
            "herd avoidance.",
        ),
        Field(
            "cache_duration",
            A_CACHE,
            "How long identical calls reuse the result; -1 = never, 0 or `forever` = no expiry.",
        ),
        Field(
            "cache_prefix",
            A_PREFIX,
            "Tasks with one prefix share results and herds; without it, the task's name.",
            common=False,
        ),
        Field(
            "memleak_threshold",
            A_THRESHOLD,
            "MB (1,000,000 bytes) of growth in one run that is reported; 0 = every growth, "
            "-1 = off.",
        ),
        Field(
            "memleak_trend",
            A_SWITCH,
            "Report growth that persists over runs, too, where a threshold is set.",
        ),
        Field(
            "memleak_trace",
            SITES,
            "Trace one run in twenty, and name this many call sites that hold new memory; 0 = off.",
        ),
        Field(
            "memleak_action",
            one_of(MemleakAction),
            "What follows a report: nothing but the log line, or a new process after the run.",
        ),
        Field(
            "on_broker_error",
            one_of(OnBrokerError),
            "What `delay()` and `apply_async()` do when the message cannot be sent.",
        ),
        Field(
            "on_store_error",
            one_of(OnStoreError),
            "What happens when the store of claims is down: carry on without it, or raise.",
        ),
        Field(
            "vary",
            A_VARY,
            "What counts beside the arguments: `queue` (named in the call), `headers` (all that "
            "the caller set, tracing apart), `headers.NAME`; [] = arguments alone.",
        ),
        Field(
            "on_duplicate",
            one_of(OnDuplicate),
            "What an identical call does: share the run, run after it, raise `DuplicateCall`, or, "
            "while one runs, share the one run that follows.",
        ),
        Field(
            "unique_until",
            one_of(UniqueUntil),
            "Until when a call is unique: until its run has ended, or until its run begins.",
        ),
        Field(
            "unique_for",
            A_TIME,
            "At most one start in this time, whatever became of it; a failure frees it.",
        ),
        Field(
            "debounce",
            A_PAUSE,
            "A run begins when no identical call has come for so long; 0 = as soon as it can.",
        ),
        Field(
            "debounce_max",
            A_PAUSE,
            "It begins at the latest so long after the first of them; without it, ten times "
            "`debounce`.",
        ),
        Field(
            "arguments",
            one_of(Whose),
            "Whose arguments, where not significant, a debounced or buffered run gets.",
        ),
        Field(
            "stale_while_revalidate",
            A_TIME,
            "After `cache_duration`, for this long, serve the old result at once and start one "
            "refresh.",
        ),
        Field(
            "failure_cache_duration",
            A_FAILURE_CACHE,
            "How long a failure is shared too; -1 = never.",
        ),
        Field("shadow", A_SWITCH, "Observe only: decide and log, but always run."),
        Field(
            "estimate_by",
            ARGUMENTS,
            "The arguments on which a run's duration depends, each `name` or `[name, converter]`; "
            "without it, all calls of the task are estimated alike.",
            common=False,
        ),
    )
}


def policy_schema() -> Schema:
    """Give the JSON Schema (draft 2020-12) of the policy file, for editors."""

    def section(common: bool) -> Schema:
        known = {f.name: f.schema for f in FIELDS.values() if f.common or not common}
        return {"type": ["object", "null"], "properties": known, "additionalProperties": False}

    about = "What holds for every task below that does not say otherwise."
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "jobtastic_ext policy",
        "type": "object",
        "required": ["tasks"],
        "additionalProperties": False,
        "properties": {
            "defaults": {"description": about, **section(common=True)},
            "tasks": {
                "description": "Task names or globs, and what holds for them.",
                "type": "object",
                "propertyNames": {"minLength": 1},
                "additionalProperties": section(common=False),
            },
        },
    }
