"""A YAML file as a tree of `Node`.

PyYAML's composer recurses and expands aliases without limit, so the tree is built here from its
events, in a loop, within limits of bytes, nodes and depth.  Nothing in a file is ever constructed.
"""

from __future__ import annotations

import os
import re
from typing import Any, Literal, NoReturn

import yaml
from yaml.reader import Reader
from yaml.resolver import Resolver

from .policy_nodes import (
    MAX_DEPTH,
    MAX_NODES,
    NOWHERE,
    Kind,
    Node,
    Place,
    Report,
    checked_entries,
    quoted,
)

__all__ = ("read_file",)

#: 1 MiB.  libyaml needs well under a second for that much hostile text; PyYAML's own scanner, for
#: those who built it without libyaml, up to two.
MAX_BYTES = 1_048_576
#: Longer text is never looked at as a number.
MAX_NUMBER_LENGTH = 100

#: The scanner: libyaml where PyYAML has it.
LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_KINDS: dict[str, Kind] = {
    "tag:yaml.org,2002:int": "number",
    "tag:yaml.org,2002:float": "number",
    "tag:yaml.org,2002:bool": "bool",
    "tag:yaml.org,2002:null": "nothing",
}
_DECIMAL_INT = re.compile(r"[-+]?(0|[1-9][0-9_]*)")
_TRUE_WORDS = ("yes", "true", "on")
_RESOLVER: Any = Resolver()


def read_file(path: str | os.PathLike[str], report: Report) -> Node | None:
    """Read a YAML file as a tree; None when it holds nothing.

    Raises `PolicyError` when it cannot be read or is not one valid YAML document.
    """
    text = _file_text(path, report)
    unprintable = Reader.NON_PRINTABLE.search(text)
    if unprintable:
        place = _place_of_index(text, unprintable.start())
        report.stop(place, f"found the control character {quoted(unprintable[0])}, expected text")
    return _Builder(report).build(text)


def _file_text(path: str | os.PathLike[str], report: Report) -> str:
    try:
        with open(path, "rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        here = "" if os.path.isabs(path) else f" in {os.getcwd()}"
        report.stop(
            NOWHERE,
            f"there is no such file{here}; create it, or set `jobtastic_policy` to the path of the "
            "policy file",
        )
    except IsADirectoryError:
        report.stop(NOWHERE, "found a directory, expected a YAML file")
    except (OSError, ValueError) as exc:
        report.stop(NOWHERE, f"the file cannot be read: {getattr(exc, 'strerror', None) or exc}")
    if len(raw) > MAX_BYTES:
        report.stop(NOWHERE, "found more than 1 MiB, expected a policy file of at most 1 MiB")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        line = raw.count(b"\n", 0, exc.start) + 1
        report.stop(
            NOWHERE,
            f"found the byte 0x{raw[exc.start]:02x} in line {line}, which is not UTF-8; save the "
            "file as UTF-8",
        )


def _place_of_index(text: str, index: int) -> Place:
    return Place(text.count("\n", 0, index) + 1, index - text.rfind("\n", 0, index))


def _place_of_mark(mark: Any) -> Place:
    return Place(mark.line + 1, mark.column + 1)


class _Frame:
    """A list or mapping whose end has not been read yet."""

    def __init__(self, kind: Literal["list", "mapping"], event: Any, broken: bool) -> None:
        self.kind = kind
        self.place = _place_of_mark(event.start_mark)
        self.anchor: str | None = event.anchor
        self.broken = broken
        self.children: list[Node] = []


class _Builder:
    """Builds the tree from YAML events, with a stack of its own."""

    def __init__(self, report: Report) -> None:
        self.report = report
        self.stack: list[_Frame] = []
        self.anchors: dict[str, Node] = {}
        self.root: Node | None = None
        self.documents = 0
        self.count = 0
        self.last = Place(1, 1)

    def build(self, text: str) -> Node | None:
        try:
            for event in yaml.parse(text, Loader=LOADER):
                self.last = _place_of_mark(event.start_mark)
                self.take(event)
        except yaml.MarkedYAMLError as exc:
            self.stop_at_syntax_error(text, exc)
        except (yaml.YAMLError, ValueError, OverflowError) as exc:
            # The pure Python scanner lets chr() raise on escapes such as "\UFFFFFFFF".
            self.report.stop(self.last, f"not valid YAML after this point: {exc}")
        return self.root

    def take(self, event: Any) -> None:
        if isinstance(event, yaml.ScalarEvent):
            self.attach(self.scalar(event), event.anchor)
        elif isinstance(event, yaml.AliasEvent):
            self.attach(self.alias(event), None)
        elif isinstance(event, yaml.SequenceStartEvent):
            self.open("list", event)
        elif isinstance(event, yaml.MappingStartEvent):
            self.open("mapping", event)
        elif isinstance(event, (yaml.SequenceEndEvent, yaml.MappingEndEvent)):
            self.close()
        elif isinstance(event, yaml.DocumentStartEvent):
            self.documents += 1
            if self.documents > 1:
                self.report.stop(self.last, "found a second document, expected only one")

    def scalar(self, event: Any) -> Node:
        self.grow(1)
        place = _place_of_mark(event.start_mark)
        if self.is_tagged(event):
            return Node(kind="broken", place=place)
        return _scalar_node(event.value, place, plain=event.implicit[0])

    def alias(self, event: Any) -> Node:
        place = _place_of_mark(event.start_mark)
        node = self.anchors.get(event.anchor)
        if any(frame.anchor == event.anchor for frame in self.stack):
            self.report.stop(place, f"the alias {quoted('*' + event.anchor)} contains itself")
        if node is None:
            name = event.anchor
            self.report.add(
                place, f"found the alias {quoted('*' + name)}, expected {quoted('&' + name)} before"
            )
            node = Node(kind="broken", place=place)
        self.grow(node.size)
        if len(self.stack) + node.height > MAX_DEPTH:
            self.stop_too_deep(place)
        return node

    def open(self, kind: Literal["list", "mapping"], event: Any) -> None:
        self.grow(1)
        if len(self.stack) >= MAX_DEPTH:
            self.stop_too_deep(self.last)
        self.stack.append(_Frame(kind, event, self.is_tagged(event)))

    def close(self) -> None:
        frame = self.stack.pop()
        children = frame.children
        items: tuple[Node, ...] = ()
        entries: tuple[tuple[Node, Node], ...] = ()
        if frame.kind == "list":
            items = tuple(children)
        else:
            pairs = zip(children[::2], children[1::2], strict=True)
            entries = checked_entries(pairs, self.report)
        node = Node(
            kind="broken" if frame.broken else frame.kind,
            place=frame.place,
            items=items,
            entries=entries,
            size=1 + sum(child.size for child in children),
            height=1 + max((child.height for child in children), default=0),
        )
        self.attach(node, frame.anchor)

    def attach(self, node: Node, anchor: str | None) -> None:
        if anchor is not None:
            self.anchors[anchor] = node
        if self.stack:
            self.stack[-1].children.append(node)
        else:
            self.root = node

    def is_tagged(self, event: Any) -> bool:
        if event.tag is None:
            return False
        tag = event.tag.replace("tag:yaml.org,2002:", "!!")
        self.report.add(
            _place_of_mark(event.start_mark),
            f"found the tag {quoted(tag)}, expected a plain value; tags are not allowed",
        )
        return True

    def grow(self, nodes: int) -> None:
        self.count += nodes
        if self.count > MAX_NODES:
            self.report.stop(
                self.last, f"found more than {MAX_NODES:,} values, expected at most that many"
            )

    def stop_too_deep(self, place: Place) -> NoReturn:
        self.report.stop(place, f"nested deeper than {MAX_DEPTH} levels, expected at most 5")

    def stop_at_syntax_error(self, text: str, exc: yaml.MarkedYAMLError) -> NoReturn:
        mark = exc.problem_mark or exc.context_mark
        place = _place_of_mark(mark) if mark else self.last
        reason = ", ".join(part for part in (exc.context, exc.problem) if part)
        lines = text.splitlines()
        indent = lines[place.line - 1][: place.column] if place.line <= len(lines) else ""
        hint = "; indent with spaces, not tabs" if "\t" in indent else ""
        self.report.stop(place, f"not valid YAML: {reason}{hint}")


def _scalar_node(text: str, place: Place, *, plain: bool) -> Node:
    kind: Kind = "text"
    if plain and len(text) <= MAX_NUMBER_LENGTH:
        tag = _RESOLVER.resolve(yaml.ScalarNode, text, (True, False))
        kind = _KINDS.get(tag, "text")
    if kind == "number":
        value = _decimal(text)
        return Node(
            kind="odd number" if value is None else "number", place=place, text=text, value=value
        )
    value = text.lower() in _TRUE_WORDS if kind == "bool" else None
    return Node(kind=kind, place=place, text=text, value=value)


def _decimal(text: str) -> int | float | None:
    """Understand a plain decimal number; YAML 1.1 has base 2, 8, 16 and 60 besides."""
    if _DECIMAL_INT.fullmatch(text):
        return int(text.replace("_", ""))
    digits = text.replace("_", "").lower()
    if digits.lstrip("+-") in (".inf", ".nan"):
        digits = digits.replace(".", "")
    try:
        return float(digits) if "." in text else None
    except ValueError:
        return None
