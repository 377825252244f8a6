"""A YAML file or a Python mapping, as one kind of tree in which every value knows its place.

PyYAML's composer recurses and expands aliases without limit, so the tree is built here from its
events, in a loop, within limits of bytes, nodes and depth.  Nothing in a file is ever constructed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any, Literal

import yaml
from msgspec import Struct
from yaml.events import CollectionEndEvent, CollectionStartEvent
from yaml.reader import Reader
from yaml.resolver import Resolver

from .problems import NOWHERE, Place, Report, quoted

#: 1 MiB.  libyaml needs well under a second for that much hostile text; PyYAML's own scanner, for
#: those who built it without libyaml, up to two.
MAX_BYTES = 1_048_576
#: Values in a policy, keys included, with every alias counted as often as it is used.
MAX_NODES = 20_000
#: A valid policy is 5 deep.
MAX_DEPTH = 16
#: Longer text is never looked at as a number.
MAX_NUMBER_LENGTH = 100

#: The scanner: libyaml where PyYAML has it.
LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

Kind = Literal[
    "mapping", "list", "text", "number", "odd number", "bool", "nothing", "object", "broken"
]
_KINDS: dict[str, Kind] = {"int": "number", "float": "number", "bool": "bool", "null": "nothing"}
_RESOLVER: Any = Resolver()
_DECIMAL_INT = re.compile(r"[-+]?(0|[1-9][0-9_]*)")
#: A key that begins as an alias or a list does, where a name or a glob was meant.
_BARE_GLOB = re.compile(r"\s*([*\[][^\s:{}\"']*)\s*:")


class Node(Struct, frozen=True, kw_only=True):
    """One value and its place.  ``broken`` is a value whose mistake is already reported."""

    kind: Kind
    place: Place
    #: A scalar as it was written.
    text: str = ""
    #: A scalar as it was understood; None for an ``odd number``, which is no plain decimal.
    value: Any = None
    items: tuple[Node, ...] = ()
    #: Keys are text; one that is there twice is reported, and both are kept.
    entries: tuple[tuple[Node, Node], ...] = ()
    #: Nodes in this part of the tree, itself included.
    size: int = 1
    height: int = 1

    def refuse(self, report: Report, expected: str) -> None:
        """Report that this is not what was expected here."""
        if self.kind != "broken":
            report.add(self.place, f"found {self.found()}, expected {expected}")

    def found(self) -> str:
        """Say in words what this is."""
        if self.kind == "bool" and self.place.line:
            return f"{quoted(self.text)}, which YAML reads as {str(self.value).lower()}"
        words = {
            "mapping": "a mapping",
            "list": "a list",
            "nothing": "nothing",
            "bool": quoted(self.text),
            "number": f"the number {quoted(self.text)}",
            "odd number": f"the number {quoted(self.text)}",
            "object": f"an object of type `{type(self.value).__name__}`",
        }
        text = f"the text {quoted(self.text)}" if self.text else "empty text"
        return words.get(self.kind, text)


def read_file(path: str | os.PathLike[str], report: Report) -> Node | None:
    """Read a YAML file as a tree; None when it holds nothing.

    Raises `PolicyError` when it cannot be read or is not one valid YAML document.
    """
    text = _text_of(path, report)
    if unprintable := Reader.NON_PRINTABLE.search(text):
        index = unprintable.start()
        place = Place(text.count("\n", 0, index) + 1, index - text.rfind("\n", 0, index))
        report.stop(place, f"found the control character {quoted(unprintable[0])}, expected text")
    return _Builder(report).build(text)


def _text_of(path: str | os.PathLike[str], report: Report) -> str:
    try:
        with open(path, "rb") as file:
            raw = file.read(MAX_BYTES + 1)
        if len(raw) <= MAX_BYTES:
            return raw.decode("utf-8-sig")
        problem = "found more than 1 MiB, expected a policy file of at most 1 MiB"
    except FileNotFoundError:
        here = "" if os.path.isabs(path) else f" in {os.getcwd()}"
        advice = "create it, or set `jobtastic_policy` to the path of the policy file"
        problem = f"there is no such file{here}; {advice}"
    except IsADirectoryError:
        problem = "found a directory, expected a YAML file"
    except UnicodeDecodeError as exc:
        byte, line = f"0x{raw[exc.start]:02x}", raw.count(b"\n", 0, exc.start) + 1
        problem = (
            f"found the byte {byte} in line {line}, which is not UTF-8; save the file as UTF-8"
        )
    except (OSError, ValueError) as exc:
        problem = f"the file cannot be read: {getattr(exc, 'strerror', None) or exc}"
    report.stop(NOWHERE, problem)


def _place(mark: Any) -> Place:
    return Place(mark.line + 1, mark.column + 1)


class _Builder:
    """Builds the tree from YAML events, with a stack of its own."""

    def __init__(self, report: Report) -> None:
        self.report = report
        #: The lists and mappings whose end has not been read yet, and what is in them so far.
        self.open: list[tuple[Any, list[Node]]] = []
        self.anchors: dict[str, Node] = {}
        self.root: Node | None = None
        self.documents = 0
        self.count = 0
        self.last = Place(1, 1)

    def build(self, text: str) -> Node | None:
        try:
            for event in yaml.parse(text, Loader=LOADER):
                self.last = _place(event.start_mark)
                self.take(event)
        except yaml.MarkedYAMLError as exc:
            mark = exc.problem_mark or exc.context_mark
            place = _place(mark) if mark else self.last
            reason = ", ".join(part for part in (exc.context, exc.problem) if part)
            lines = [*text.splitlines(), ""]
            line = lines[min(place.line, len(lines)) - 1]
            hint = "; indent with spaces, not tabs" if "\t" in line[: place.column] else ""
            if glob := _BARE_GLOB.match(line):
                hint = f"; a glob is quoted: {quoted(_in_quotes(glob[1]))}"
            self.report.stop(place, f"not valid YAML: {reason}{hint}")
        except (yaml.YAMLError, ValueError, OverflowError) as exc:
            # The pure Python scanner lets chr() raise on escapes such as "\UFFFFFFFF".
            self.report.stop(self.last, f"not valid YAML after this point: {exc}")
        return self.root

    def take(self, event: Any) -> None:
        if isinstance(event, yaml.ScalarEvent):
            self.grow(1, 0)
            kind, value = _understood(event.value, plain=event.implicit[0])
            self.attach(event, self.node(event, kind, text=event.value, value=value))
        elif isinstance(event, yaml.AliasEvent):
            self.attach(None, self.alias(event.anchor))
        elif isinstance(event, CollectionStartEvent):
            self.grow(1, 1)
            self.open.append((event, []))
        elif isinstance(event, CollectionEndEvent):
            start, children = self.open.pop()
            self.attach(start, self.collection(start, children))
        elif isinstance(event, yaml.DocumentStartEvent):
            self.documents += 1
            if self.documents > 1:
                self.report.stop(self.last, "found a second document, expected only one")

    def node(self, event: Any, kind: Kind, **of_node: Any) -> Node:
        place = _place(event.start_mark)
        if event.tag is not None:
            tag = quoted(event.tag.replace("tag:yaml.org,2002:", "!!"))
            expected = "expected a plain value; tags are not allowed"
            self.report.add(place, f"found the tag {tag}, {expected}")
            return Node(kind="broken", place=place)
        return Node(kind=kind, place=place, **of_node)

    def collection(self, start: Any, children: list[Node]) -> Node:
        size = 1 + sum(child.size for child in children)
        height = 1 + max((child.height for child in children), default=0)
        if isinstance(start, yaml.SequenceStartEvent):
            return self.node(start, "list", items=tuple(children), size=size, height=height)
        entries = _entries(zip(children[::2], children[1::2], strict=True), self.report)
        return self.node(start, "mapping", entries=entries, size=size, height=height)

    def alias(self, anchor: Any) -> Node:
        if any(start.anchor == anchor for start, _ in self.open):
            self.report.stop(self.last, f"the alias {quoted('*' + anchor)} contains itself")
        node = self.anchors.get(anchor)
        if node is None:
            expected = f"expected {quoted('&' + anchor)} before"
            start, children = self.open[-1] if self.open else (None, [])
            if isinstance(start, yaml.MappingStartEvent) and len(children) % 2 == 0:
                expected += f"; a glob is quoted: {quoted(_in_quotes('*' + anchor))}"
            self.report.add(self.last, f"found the alias {quoted('*' + anchor)}, {expected}")
            node = Node(kind="broken", place=self.last)
        self.grow(node.size, node.height)
        return node

    def attach(self, event: Any, node: Node) -> None:
        if event is not None and event.anchor is not None:
            self.anchors[event.anchor] = node
        if self.open:
            self.open[-1][1].append(node)
        else:
            self.root = node

    def grow(self, nodes: int, height: int) -> None:
        self.count += nodes
        if self.count > MAX_NODES:
            limit = f"found more than {MAX_NODES:,} values, expected at most that many"
            self.report.stop(self.last, limit)
        if len(self.open) + height > MAX_DEPTH:
            limit = f"nested deeper than {MAX_DEPTH} levels, expected at most 5"
            self.report.stop(self.last, limit)


def _in_quotes(text: str) -> str:
    return f'"{text}"'


def _understood(text: str, *, plain: bool) -> tuple[Kind, Any]:
    """Return what kind of scalar a text is, and its value."""
    kind: Kind = "text"
    if plain and len(text) <= MAX_NUMBER_LENGTH:
        tag = _RESOLVER.resolve(yaml.ScalarNode, text, (True, False))
        kind = _KINDS.get(tag.rpartition(":")[2], "text")
    if kind == "bool":
        return kind, text.lower() in ("yes", "true", "on")
    if kind != "number":
        return kind, None
    # A plain decimal; YAML 1.1 has base 2, 8, 16 and 60 besides.
    digits = text.replace("_", "").lower()
    if _DECIMAL_INT.fullmatch(text):
        return kind, int(digits)
    if digits.lstrip("+-") in (".inf", ".nan"):
        return kind, float(digits.replace(".", ""))
    if "." in digits and ":" not in digits:
        return kind, float(digits)
    return "odd number", None


def _entries(pairs: Iterable[tuple[Node, Node]], report: Report) -> tuple[tuple[Node, Node], ...]:
    """Report keys that are not text, and leave them out; report keys that were there before."""
    entries: list[tuple[Node, Node]] = []
    first: dict[str, Place] = {}
    for key, value in pairs:
        if key.kind != "text":
            key.refuse(
                report, "a key that is text" + (f"; quote it: '{key.text}'" * bool(key.text))
            )
            continue
        if key.text == "<<":
            report.add(
                key.place,
                "found the merge key `<<`, which is not supported; write shared fields under "
                "`defaults`, or one glob for several tasks",
            )
            continue
        if key.text in first:
            twice = f"found the key {quoted(key.text)} twice, expected it once"
            report.add(key.place, f"{twice}; the first is {first[key.text]}")
        first.setdefault(key.text, key.place)
        entries.append((key, value))
    return tuple(entries)


def read_mapping(mapping: Mapping[Any, Any], report: Report) -> Node:
    """Read a Python mapping as the same kind of tree.  Raises `PolicyError` past the limits."""
    count = 0

    def read(value: Any, path: str, depth: int) -> Node:
        nonlocal count
        count += 1
        if count > MAX_NODES:
            report.stop(NOWHERE, f"found more than {MAX_NODES:,} values")
        if depth > MAX_DEPTH:
            report.stop(NOWHERE, f"nested deeper than {MAX_DEPTH} levels")
        if isinstance(value, Mapping):
            pairs = []
            for key, below in value.items():
                at = f"{path}.{quoted(str(key)).strip('`')}".lstrip(".")
                pairs.append((_python_scalar(key, at), read(below, at, depth + 1)))
            return Node(kind="mapping", place=Place(0, 0, path), entries=_entries(pairs, report))
        if isinstance(value, (list, tuple)):
            items = [read(item, f"{path}[{n}]", depth + 1) for n, item in enumerate(value)]
            return Node(kind="list", place=Place(0, 0, path), items=tuple(items))
        return _python_scalar(value, path)

    return read(mapping, "", 1)


def _python_scalar(value: Any, path: str) -> Node:
    place = Place(0, 0, path)
    if value is None:
        return Node(kind="nothing", place=place)
    if isinstance(value, str):
        return Node(kind="text", place=place, text=str(value))
    if isinstance(value, timedelta):
        value = value.total_seconds()
    if not isinstance(value, (bool, int, float)):
        return Node(kind="object", place=place, value=value)
    # str() refuses a whole number of more than 4,300 digits.
    large = isinstance(value, int) and abs(value) > 10**100
    text = "over 10**100" if large else str(value)
    kind: Kind = "bool" if isinstance(value, bool) else "number"
    return Node(kind=kind, place=place, text=text, value=value)
