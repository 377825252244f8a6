"""Readers of the values in a policy: each gives what was meant, or reports and gives `UNSET`."""

from __future__ import annotations

import math
import re
from collections.abc import Callable

from msgspec import UNSET, Struct, UnsetType

from .converters import CONVERTERS, Converter, ConverterError, load_converter
from .policy_nodes import Node, Report, did_you_mean, quoted

__all__ = (
    "DURATION",
    "LONGEST",
    "MOST_SITES",
    "Significant",
    "one_of",
    "read_cache_duration",
    "read_failure_cache_duration",
    "read_prefix",
    "read_seconds",
    "read_significant",
    "read_switch",
    "read_threshold",
    "read_trace",
)

#: 100 years, in seconds.
LONGEST = 100 * 365.25 * 86_400

#: Call sites that one log line may name.
MOST_SITES = 100

_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3_600, "d": 86_400}
DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d)")
_A_DURATION = "a duration: seconds, or such as `90s`, `5m`, `1h`, `7d`, `forever`"
_A_THRESHOLD = "a number of MB such as `50`, 0 for every growth, or -1 for off"
_A_NUMBER_OF_SITES = f"a number of call sites from 0 (off) to {MOST_SITES}, such as `5`"
_AN_ARGUMENT = "an argument's `name`, or `[name, converter]`"


class Significant(Struct, frozen=True):
    """One argument that tells calls apart."""

    name: str
    #: As written; None where the policy names no converter.
    converter: str | None = None
    #: The callable that ``converter`` means.
    convert: Converter | None = None


class _NoDuration(ValueError):
    """The value is no duration; the message, if any, is a hint."""


def _seconds(value: float | str) -> float:
    if value == "forever":
        return math.inf
    if isinstance(value, str):
        match = DURATION.fullmatch(value)
        if not match:
            raise _NoDuration(_unit_hint(value))
        value = float(match[1]) * _UNITS[match[2]]
    if value < 0 or value != value:  # not isnan(), for which a whole number may be too large
        raise _NoDuration
    # Compared before float(): a whole number may be too large for one.
    if value > LONGEST:
        raise _NoDuration("; that is more than 100 years: write `forever`")
    return float(value)


def _unit_hint(text: str) -> str:
    tidy = re.sub(r"\s", "", text.lower())
    if re.fullmatch(r"[0-9]+(\.[0-9]+)?", text):
        return f"; for seconds, write {quoted(text)} without quotes"
    if tidy == "forever" or DURATION.fullmatch(tidy):
        return f"; did you mean {quoted(tidy)}?"
    if re.match(r"[0-9.]+[a-z]", tidy):
        return "; write one number with one unit: `ms`, `s`, `m`, `h` or `d`"
    return did_you_mean(tidy, ["forever"])


def _odd_number_hint(text: str) -> str:
    """Say how to write a number that YAML 1.1 takes for base 2, 8, 16 or 60."""
    if ":" not in text:
        return "; write it in plain decimal, without a leading zero"
    seconds = 0.0
    for part in text.replace("_", "").lstrip("+-").split(":"):
        seconds = seconds * 60 + float(part)
    return f"; YAML reads it in base 60: write `{seconds:.15g}s`"


def read_seconds(node: Node, report: Report, what: str = _A_DURATION) -> float | UnsetType:
    hint = ""
    if node.kind == "odd number":
        hint = _odd_number_hint(node.text)
    elif node.kind in ("number", "text"):
        try:
            return _seconds(node.value if node.kind == "number" else node.text)
        except _NoDuration as exc:
            hint = str(exc)
    report.expected(node, what + hint)
    return UNSET


def _is_number(node: Node, number: int) -> bool:
    return node.kind == "number" and bool(node.value == number)


def read_cache_duration(node: Node, report: Report) -> float | UnsetType | None:
    if _is_number(node, -1):
        return None
    seconds = read_seconds(node, report, f"{_A_DURATION}, or -1 for never")
    return math.inf if seconds == 0 else seconds


def read_failure_cache_duration(node: Node, report: Report) -> float | UnsetType | None:
    if _is_number(node, -1):
        return None
    what = f"{_A_DURATION}, or -1 for never"
    seconds = read_seconds(node, report, what)
    if seconds == 0:
        report.expected(node, f"{what}; 0 could mean either")
        return UNSET
    return seconds


def read_threshold(node: Node, report: Report) -> float | UnsetType | None:
    if _is_number(node, -1):
        return None
    # Compared before float(): a whole number may be too large for one.
    if node.kind == "number" and 0 <= node.value <= 1e15:
        return float(node.value)
    report.expected(node, _A_THRESHOLD)
    return UNSET


def read_prefix(node: Node, report: Report) -> str | UnsetType:
    if node.kind == "text" and node.text:
        return node.text
    report.expected(node, "a prefix: text that is not empty")
    return UNSET


def read_trace(node: Node, report: Report) -> int | UnsetType:
    if node.kind == "number" and isinstance(node.value, int) and 0 <= node.value <= MOST_SITES:
        return node.value
    report.expected(node, _A_NUMBER_OF_SITES)
    return UNSET


def read_switch(node: Node, report: Report) -> bool | UnsetType:
    if node.kind == "bool":
        return bool(node.value)
    report.expected(node, "`true` or `false`")
    return UNSET


def one_of(choices: tuple[str, ...]) -> Callable[[Node, Report], str | UnsetType]:
    *first, last = [f"`{choice}`" for choice in choices]
    what = f"{', '.join(first)} or {last}"

    def read(node: Node, report: Report) -> str | UnsetType:
        if node.kind == "text" and node.text in choices:
            return node.text
        report.expected(node, what + did_you_mean(node.text, choices))
        return UNSET

    return read


def read_significant(node: Node, report: Report) -> tuple[Significant, ...] | UnsetType:
    if node.kind != "list":
        report.expected(node, f"a list, each item {_AN_ARGUMENT}")
        return UNSET
    first: dict[str, Node] = {}
    arguments = []
    for item in node.items:
        argument = _read_argument(item, report)
        if not argument:
            continue
        arguments.append(argument)
        if argument.name in first:
            where = first[argument.name].place
            message = f"found the argument {quoted(argument.name)} twice, expected it once"
            report.add(item.place, f"{message}; the first is {where}")
        first.setdefault(argument.name, item)
    return tuple(arguments) if len(first) == len(node.items) else UNSET


def _read_argument(node: Node, report: Report) -> Significant | None:
    if node.kind == "list" and len(node.items) == 2:
        name = _read_name(node.items[0], report)
        converter = _read_converter(node.items[1], report)
        return Significant(name, *converter) if name and converter else None
    if node.kind == "list":
        report.add(node.place, f"found a list of {len(node.items)}, expected {_AN_ARGUMENT}")
        return None
    if node.kind == "mapping" and len(node.entries) == 1:
        name, below = (part.text for part in node.entries[0])
        pair = quoted(f"[{name}, {below or 'json'}]")
        report.expected(node, f"{_AN_ARGUMENT}; write {pair}")
        return None
    name = _read_name(node, report)
    return Significant(name) if name else None


def _read_name(node: Node, report: Report) -> str | None:
    if node.kind == "text" and node.text:
        return node.text
    hint = f"; quote it: '{node.text}'" if node.kind == "bool" else ""
    report.expected(node, _AN_ARGUMENT + hint)
    return None


def _read_converter(node: Node, report: Report) -> tuple[str, Converter] | None:
    if node.kind == "object" and callable(node.value):
        return _spec_of(node.value), node.value
    hint = ""
    if node.kind == "text":
        try:
            return node.text, load_converter(node.text)
        except ConverterError as exc:
            hint = f"; {exc}" if str(exc) else did_you_mean(node.text, CONVERTERS)
    words = ", ".join(f"`{name}`" for name in CONVERTERS)
    report.expected(node, f"a converter: {words} or `package.module:callable`{hint}")
    return None


def _spec_of(converter: Converter) -> str:
    for name, known in CONVERTERS.items():
        if converter is known:
            return name
    kind = converter if hasattr(converter, "__qualname__") else type(converter)
    return f"{kind.__module__}:{kind.__qualname__}"
