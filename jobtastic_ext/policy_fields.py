"""What a task's policy may say: one table of fields, each with its reader and its JSON Schema."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, get_args

from msgspec import Struct
from msgspec.structs import fields

from .converters import CONVERTERS
from .policy_nodes import Node, Report
from .policy_values import (
    DURATION,
    LONGEST,
    MOST_SITES,
    Significant,
    one_of,
    read_cache_duration,
    read_failure_cache_duration,
    read_prefix,
    read_seconds,
    read_significant,
    read_switch,
    read_threshold,
    read_trace,
)

__all__ = ("FIELDS", "Field", "Significant", "TaskPolicy", "policy_schema")

OnBrokerError = Literal["raise", "eager", "fail"]
OnStoreError = Literal["run", "raise"]
OnDuplicate = Literal["join", "serialize", "raise"]
MemleakAction = Literal["log", "recycle"]


class TaskPolicy(Struct, frozen=True, kw_only=True):
    """What holds for one task.  Durations are seconds; `math.inf` is for ever."""

    #: The task name or glob in the policy that matched.
    pattern: str
    #: None: every argument.
    significant_kwargs: tuple[Significant, ...] | None = None
    herd_avoidance_timeout: float = 60.0
    #: None: results are not reused.
    cache_duration: float | None = None
    #: None: the task's name.
    cache_prefix: str | None = None
    #: MB (1,000,000 bytes) of growth in one run; None: off.
    memleak_threshold: float | None = None
    #: Watch for growth that persists over runs, too.  Means nothing without a threshold.
    memleak_trend: bool = True
    #: How many call sites a report names; 0: none, and no run is traced.
    memleak_trace: int = 0
    memleak_action: MemleakAction = "log"
    on_broker_error: OnBrokerError = "raise"
    on_store_error: OnStoreError = "run"
    on_duplicate: OnDuplicate = "join"
    stale_while_revalidate: float = 0.0
    #: None: failures are not shared.
    failure_cache_duration: float | None = None
    shadow: bool = False
    #: None: one history of durations for the whole task.
    estimate_by: tuple[Significant, ...] | None = None


_DEFAULTS: dict[str, Any] = {field.name: field.default for field in fields(TaskPolicy)}


class Field(Struct, frozen=True):
    """One field of the policy file."""

    name: str
    #: Gives the value for `TaskPolicy`, or reports the mistake and gives `UNSET`.
    read: Callable[[Node, Report], Any]
    meaning: str
    schema: dict[str, Any]
    #: May it stand under ``defaults``?
    common: bool = True

    @property
    def default(self) -> Any:
        """What `TaskPolicy` holds where the policy file is silent."""
        return _DEFAULTS[self.name]

    @property
    def written_default(self) -> Any:
        """The default as one would write it in the file; None where silence cannot be written."""
        if self.default is None and self.common:
            return -1
        return int(self.default) if isinstance(self.default, float) else self.default


def _duration_schema(*, never: bool = False, zero: bool = True) -> dict[str, Any]:
    seconds = {"type": "number", "minimum" if zero else "exclusiveMinimum": 0, "maximum": LONGEST}
    text = {"type": "string", "pattern": f"^({DURATION.pattern}|forever)$"}
    return {"anyOf": [seconds, {"const": -1}, text] if never else [seconds, text]}


def _argument_schema() -> dict[str, Any]:
    name = {"type": "string", "minLength": 1}
    converter = {"anyOf": [{"enum": list(CONVERTERS)}, {"type": "string", "pattern": ":"}]}
    pair = {"type": "array", "prefixItems": [name, converter], "minItems": 2, "maxItems": 2}
    return {"type": "array", "items": {"anyOf": [name, pair]}, "uniqueItems": True}


#: Every field, in the order of the documentation.
FIELDS: dict[str, Field] = {
    field.name: field
    for field in (
        Field(
            "significant_kwargs",
            read_significant,
            "The arguments that tell calls apart, each `name` or `[name, converter]`; without it, "
            "every argument counts.",
            _argument_schema(),
            common=False,
        ),
        Field(
            "herd_avoidance_timeout",
            read_seconds,
            "The longest that identical calls wait for one run, counted from its start; 0 = no "
            "herd avoidance.",
            _duration_schema(),
        ),
        Field(
            "cache_duration",
            read_cache_duration,
            "How long identical calls reuse the result; -1 = never, 0 or `forever` = no expiry.",
            _duration_schema(never=True),
        ),
        Field(
            "cache_prefix",
            read_prefix,
            "Tasks with one prefix share results and herds; without it, the task's name.",
            {"type": "string", "minLength": 1},
            common=False,
        ),
        Field(
            "memleak_threshold",
            read_threshold,
            "MB (1,000,000 bytes) of growth in one run that is reported; 0 = every growth, "
            "-1 = off.",
            {"anyOf": [{"type": "number", "minimum": 0}, {"const": -1}]},
        ),
        Field(
            "memleak_trend",
            read_switch,
            "Report growth that persists over runs, too, where a threshold is set.",
            {"type": "boolean"},
        ),
        Field(
            "memleak_trace",
            read_trace,
            "Trace one run in twenty, and name this many call sites that hold new memory; 0 = off.",
            {"type": "integer", "minimum": 0, "maximum": MOST_SITES},
        ),
        Field(
            "memleak_action",
            one_of(get_args(MemleakAction)),
            "What follows a report: nothing but the log line, or a new process after the run.",
            {"enum": list(get_args(MemleakAction))},
        ),
        Field(
            "on_broker_error",
            one_of(get_args(OnBrokerError)),
            "What `delay()` and `apply_async()` do when the message cannot be sent.",
            {"enum": list(get_args(OnBrokerError))},
        ),
        Field(
            "on_store_error",
            one_of(get_args(OnStoreError)),
            "What happens when the store of claims is down: carry on without it, or raise.",
            {"enum": list(get_args(OnStoreError))},
        ),
        Field(
            "on_duplicate",
            one_of(get_args(OnDuplicate)),
            "What an identical call does: share the run, run after it, or raise `DuplicateCall`.",
            {"enum": list(get_args(OnDuplicate))},
        ),
        Field(
            "stale_while_revalidate",
            read_seconds,
            "After `cache_duration`, for this long, serve the old result at once and start one "
            "refresh.",
            _duration_schema(),
        ),
        Field(
            "failure_cache_duration",
            read_failure_cache_duration,
            "How long a failure is shared too; -1 = never.",
            _duration_schema(never=True, zero=False),
        ),
        Field(
            "shadow",
            read_switch,
            "Observe only: decide, count and log, but always run.",
            {"type": "boolean"},
        ),
        Field(
            "estimate_by",
            read_significant,
            "The arguments on which a run's duration depends, each `name` or `[name, converter]`; "
            "without it, all calls of the task are estimated alike.",
            _argument_schema(),
            common=False,
        ),
    )
}


def policy_schema() -> dict[str, Any]:
    """Give the JSON Schema (draft 2020-12) of the policy file, for editors."""
    common = {name: _field_schema(field) for name, field in FIELDS.items() if field.common}
    every = {name: _field_schema(field) for name, field in FIELDS.items()}
    task = {"type": ["object", "null"], "properties": every, "additionalProperties": False}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "jobtastic_ext policy",
        "type": "object",
        "required": ["tasks"],
        "additionalProperties": False,
        "properties": {
            "defaults": {
                "description": "What holds for every task below that does not say otherwise.",
                "type": ["object", "null"],
                "properties": common,
                "additionalProperties": False,
            },
            "tasks": {
                "description": "Task names or globs, and what holds for them.",
                "type": "object",
                "propertyNames": {"minLength": 1},
                "additionalProperties": task,
            },
        },
    }


def _field_schema(field: Field) -> dict[str, Any]:
    schema = {"description": field.meaning, **field.schema}
    if field.written_default is not None:
        schema["default"] = field.written_default
    return schema
