"""A small tree in which every value knows its place, and the report of what is wrong with it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any, Literal, NamedTuple, NoReturn

from msgspec import Struct

from .errors import PolicyError, Problem

__all__ = (
    "INLINE_SOURCE",
    "MAX_DEPTH",
    "MAX_NODES",
    "NOWHERE",
    "Node",
    "Place",
    "Report",
    "checked_entries",
    "did_you_mean",
    "found",
    "quoted",
    "read_mapping",
)

#: What a mapping given inline is called in errors.
INLINE_SOURCE = "<jobtastic_policy>"

#: Values in a policy, keys included, with every alias counted as often as it is used.
MAX_NODES = 20_000
#: A valid policy is 5 deep.
MAX_DEPTH = 16

Kind = Literal[
    "mapping", "list", "text", "number", "odd number", "bool", "nothing", "object", "broken"
]


class Place(NamedTuple):
    """Where a value stands: a 1-based line and column, or its path in an inline mapping."""

    line: int
    column: int
    #: Such as ``tasks.reports.divide.cache_duration``; empty in a file.
    path: str = ""

    def __str__(self) -> str:
        return f"on line {self.line}" if self.line else f"`{self.path}`"


#: No position: the file could not be read, or the inline mapping as a whole is meant.
NOWHERE = Place(0, 0)


class Node(Struct, frozen=True, kw_only=True):
    """One value and its place.  ``broken`` is a value whose mistake is already reported."""

    kind: Kind
    place: Place
    #: A scalar as it was written.
    text: str = ""
    #: A scalar as it was understood; None for an ``odd number``.
    value: Any = None
    items: tuple[Node, ...] = ()
    #: Keys are text; one that is there twice is reported, and both are kept.
    entries: tuple[tuple[Node, Node], ...] = ()
    #: Nodes in this part of the tree, itself included.
    size: int = 1
    height: int = 1


class Report:
    """Gathers mistakes, so that all of them can be told at once."""

    def __init__(self, source: str) -> None:
        self.source = source
        #: A dict, because a value that aliases repeat is one mistake.
        self._problems: dict[Problem, None] = {}

    def problem(self, place: Place, message: str) -> Problem:
        """Locate a message, without keeping it."""
        text = f"{place.path}: {message}" if place.path else message
        return Problem(self.source, place.line, place.column, text)

    def add(self, place: Place, message: str) -> None:
        """Keep one mistake."""
        self.keep(self.problem(place, message))

    def keep(self, problem: Problem) -> None:
        """Keep a mistake that has its place already."""
        self._problems[problem] = None

    def expected(self, node: Node, what: str) -> None:
        """Keep the mistake that a node is not what was expected there."""
        if node.kind != "broken":
            self.add(node.place, f"found {found(node)}, expected {what}")

    def stop(self, place: Place, message: str) -> NoReturn:
        """Keep a mistake after which reading on makes no sense, and raise `PolicyError`."""
        self.add(place, message)
        self.raise_problems()
        raise AssertionError("unreachable")

    def raise_problems(self) -> None:
        """Raise `PolicyError` if there was any mistake, in the order of the file."""
        if self._problems:
            raise PolicyError(sorted(self._problems, key=lambda p: (p.line, p.column)))


def quoted(text: str) -> str:
    """Put text from a policy between backticks: printable, and at most 60 characters."""
    if not text.isprintable():
        text = text.encode("unicode_escape").decode("ascii")
    return f"`{text if len(text) <= 60 else text[:57] + '...'}`"


def found(node: Node) -> str:
    """Say in words what a node is, for an error."""
    if node.kind == "bool" and node.place.line:
        return f"{quoted(node.text)}, which YAML reads as {str(node.value).lower()}"
    words = {
        "mapping": "a mapping",
        "list": "a list",
        "nothing": "nothing",
        "bool": quoted(node.text),
        "number": f"the number {quoted(node.text)}",
        "odd number": f"the number {quoted(node.text)}",
        "object": f"an object of type `{type(node.value).__name__}`",
    }
    return words.get(node.kind) or (f"the text {quoted(node.text)}" if node.text else "empty text")


def did_you_mean(word: str, names: Iterable[str]) -> str:
    """Suggest the nearest name, as the end of a message; empty if none is near."""
    near = difflib.get_close_matches(word, names, n=1) if len(word) <= 64 else []
    return f"; did you mean `{near[0]}`?" if near else ""


def checked_entries(
    pairs: Iterable[tuple[Node, Node]], report: Report
) -> tuple[tuple[Node, Node], ...]:
    """Report keys that are not text, and leave them out; report keys that were there before."""
    entries: list[tuple[Node, Node]] = []
    first: dict[str, Place] = {}
    for key, value in pairs:
        if key.kind != "text":
            hint = f"; quote it: '{key.text}'" if key.text else ""
            report.expected(key, f"a key that is text{hint}")
            continue
        if key.text == "<<":
            report.add(
                key.place,
                "found the merge key `<<`, which is not supported; write shared fields under "
                "`defaults`, or one glob for several tasks",
            )
            continue
        if key.text in first:
            report.add(
                key.place,
                f"found the key {quoted(key.text)} twice, expected it once; the first is "
                f"{first[key.text]}",
            )
        first.setdefault(key.text, key.place)
        entries.append((key, value))
    return tuple(entries)


def read_mapping(mapping: Mapping[Any, Any], report: Report) -> Node:
    """Read a Python mapping as the same kind of tree.  Raises `PolicyError` past the limits."""
    return _InlineReader(report).read(mapping, "", 1)


class _InlineReader:
    """Builds the tree from a Python mapping, within the same limits."""

    def __init__(self, report: Report) -> None:
        self.report = report
        self.count = 0

    def read(self, value: Any, path: str, depth: int) -> Node:
        place = Place(0, 0, path)
        self.count += 1
        if self.count > MAX_NODES:
            self.report.stop(NOWHERE, f"found more than {MAX_NODES:,} values")
        if depth > MAX_DEPTH:
            self.report.stop(NOWHERE, f"nested deeper than {MAX_DEPTH} levels")
        if isinstance(value, Mapping):
            return self.read_entries(value, place, depth)
        if isinstance(value, (list, tuple)):
            return self.read_items(value, place, depth)
        return _python_scalar(value, place)

    def read_entries(self, value: Mapping[Any, Any], place: Place, depth: int) -> Node:
        pairs = []
        for key, below in value.items():
            path = f"{place.path}.{_path_part(key)}".lstrip(".")
            pairs.append(
                (_python_scalar(key, Place(0, 0, path)), self.read(below, path, depth + 1))
            )
        entries = checked_entries(pairs, self.report)
        return Node(kind="mapping", place=place, entries=entries)

    def read_items(self, value: Sequence[Any], place: Place, depth: int) -> Node:
        items = tuple(
            self.read(item, f"{place.path}[{index}]", depth + 1) for index, item in enumerate(value)
        )
        return Node(kind="list", place=place, items=items)


def _path_part(key: Any) -> str:
    return quoted(str(key)).strip("`")


def _python_scalar(value: Any, place: Place) -> Node:
    if value is None:
        return Node(kind="nothing", place=place)
    if isinstance(value, str):
        return Node(kind="text", place=place, text=str(value))
    if isinstance(value, timedelta):
        value = value.total_seconds()
    if not isinstance(value, (bool, int, float)):
        return Node(kind="object", place=place, value=value)
    kind: Kind = "bool" if isinstance(value, bool) else "number"
    return Node(kind=kind, place=place, text=_number_text(value), value=value)


def _number_text(value: Any) -> str:
    # str() refuses a whole number of more than 4,300 digits.
    return "over 10**100" if isinstance(value, int) and abs(value) > 10**100 else str(value)
