"""Reads jobtastic's classes in source text: no Celery of today can import them.

Nothing is run.  A value is understood if it is written out, or a sum of numbers.
"""

from __future__ import annotations

import ast
import operator
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from msgspec import Struct

from ..policy.converters import CONVERTERS
from . import jobtastic
from .found import Found

#: The base class, as its library calls it in full.
BASE = "jobtastic.JobtasticTask", "jobtastic.task.JobtasticTask"

#: Folders that hold other people's code.
FOREIGN = ("site-packages", "node_modules", "build", "dist")

#: What people compute a time with.
ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
}

#: Takes no arguments.
NOTHING = ast.arguments(posonlyargs=[], args=[], kwonlyargs=[], kw_defaults=[], defaults=[])

#: What stands for a value that only running the code would tell.
UNKNOWN = object()


class Unread(Struct, frozen=True):
    """A file that is no Python of today."""

    place: str
    reason: str


class Class(Struct, kw_only=True):
    """One class, as it is written."""

    module: str
    place: str
    node: ast.ClassDef
    #: What the names of its module mean in full.
    names: dict[str, str]

    @property
    def name(self) -> str:
        return f"{self.module}.{self.node.name}"

    def bases(self) -> list[str]:
        return [full_name(base, self.names) for base in self.node.bases]


def read_folder(folder: Path) -> tuple[list[Found], list[Unread]]:
    """Return what the jobtastic tasks under a folder were told; it is what modules are named by."""
    classes: dict[str, Class] = {}
    unread = []
    for path in sources(folder):
        try:
            tree = ast.parse(path.read_bytes())
        except (SyntaxError, ValueError) as error:
            unread.append(Unread(str(path), str(error)))
            continue
        module = ".".join(path.relative_to(folder).with_suffix("").parts)
        module = module.removesuffix(".__init__")
        names = names_of(tree, module)
        for node in tree.body:
            if isinstance(node, ast.ClassDef):
                place = f"{os.path.relpath(path)}:{node.lineno}"
                found = Class(module=module, place=place, node=node, names=names)
                classes[found.name] = found
    read = (found_of(each, classes) for each in classes.values())
    return [found for found in read if found is not None], unread


def sources(folder: Path) -> Iterator[Path]:
    """Yield the project's own Python files, in order."""
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(
            name
            for name in folders
            if name not in FOREIGN
            and not name.startswith(".")
            and not Path(place, name, "pyvenv.cfg").exists()
        )
        yield from (Path(place, name) for name in sorted(files) if name.endswith(".py"))


def names_of(tree: ast.Module, module: str) -> dict[str, str]:
    """Return what each name at the top of a module means: what it imports, and what it defines."""
    names: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for each in node.names:
                names[each.asname or each.name.partition(".")[0]] = (
                    each.name if each.asname else each.name.partition(".")[0]
                )
        elif isinstance(node, ast.ImportFrom):
            above = module.split(".")[: -node.level] if node.level else []
            origin = ".".join([*above, *filter(None, [node.module])])
            for each in node.names:
                names[each.asname or each.name] = f"{origin}.{each.name}"
    for node in tree.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            names[node.name] = f"{module}.{node.name}"
    return names


def full_name(node: ast.expr, names: dict[str, str]) -> str:
    """Return a dotted name in full; empty for any other expression."""
    if isinstance(node, ast.Name):
        return names.get(node.id, node.id)
    if isinstance(node, ast.Attribute):
        before = full_name(node.value, names)
        return before and f"{before}.{node.attr}"
    return ""


def line_of(found: Class, classes: dict[str, Class]) -> list[Class]:
    """Return a class and those it inherits, nearest first; empty if it is no task of jobtastic."""
    for base in found.bases():
        if base in BASE:
            return [found]
        above = line_of(classes[base], classes) if base in classes else []
        if above:
            return [found, *above]
    return []


def found_of(found: Class, classes: dict[str, Class]) -> Found | None:
    line = line_of(found, classes)
    own = assigned(found.node)
    if not line or is_true(own.get("abstract")):
        return None
    told: dict[str, tuple[Class, ast.expr]] = {}
    for each in reversed(line):
        told.update({name: (each, value) for name, value in assigned(each.node).items()})
    remarks: list[str] = []
    values: dict[str, Any] = {}
    for name in jobtastic.ATTRIBUTES:
        if name in told:
            value = value_of(name, *told[name])
            if value is UNKNOWN:
                remarks.append(f"{name} is `{ast.unparse(told[name][1])}`: write what that is")
            else:
                values[name] = value

    def argument(name: str, converter: str) -> str | list[str]:
        if converter.startswith("lambda"):
            remarks.append(
                f"{name} was converted by `{converter}`; make it a function, and write "
                f"[{name}, package.module:function]"
            )
            return name
        return [name, converter]

    fields = jobtastic.fields_of(values, argument, remarks)
    methods = {
        node.name for each in line for node in each.node.body if isinstance(node, ast.FunctionDef)
    }
    remarks += (f"{name} {what}" for name, what in jobtastic.REPLACED.items() if name in methods)
    own_name = own.get("name")
    is_named = isinstance(own_name, ast.Constant) and isinstance(own_name.value, str)
    return Found(
        task=str(own_name.value) if is_named else found.name,  # type: ignore[union-attr]
        library=jobtastic.NAME,
        place=found.place,
        fields=fields,
        remarks=remarks,
        delete=", ".join(name for name in jobtastic.ATTRIBUTES if name in own),
    )


def is_true(node: ast.expr | None) -> bool:
    return isinstance(node, ast.Constant) and node.value is True


def assigned(node: ast.ClassDef) -> dict[str, ast.expr]:
    """Return what a class's body assigns."""
    found: dict[str, ast.expr] = {}
    for line in node.body:
        if isinstance(line, ast.Assign):
            found.update({t.id: line.value for t in line.targets if isinstance(t, ast.Name)})
        elif isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name) and line.value:
            found[line.target.id] = line.value
    return found


def value_of(name: str, found: Class, node: ast.expr) -> Any:
    """Return an attribute's value; for ``significant_kwargs`` pairs of name and spelling."""
    if name == "significant_kwargs":
        return pairs_of(found, node)
    try:
        return ast.literal_eval(node)
    except ValueError:
        return number_of(node)


def number_of(node: ast.expr) -> Any:
    """Return what a sum such as ``60 * 60`` comes to."""
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        return node.value
    if not isinstance(node, ast.BinOp) or type(node.op) not in ARITHMETIC:
        return UNKNOWN
    left, right = number_of(node.left), number_of(node.right)
    if UNKNOWN in (left, right):
        return UNKNOWN
    return ARITHMETIC[type(node.op)](left, right)


def pairs_of(found: Class, node: ast.expr) -> Any:
    if not isinstance(node, ast.List | ast.Tuple):
        return UNKNOWN
    pairs = []
    for item in node.elts:
        if not isinstance(item, ast.List | ast.Tuple) or len(item.elts) != 2:
            return UNKNOWN
        name, converter = item.elts
        if not isinstance(name, ast.Constant) or not isinstance(name.value, str):
            return UNKNOWN
        pairs.append((name.value, spelt(converter, found)))
    return pairs


def spelt(node: ast.expr, found: Class) -> str:
    """Return how a policy names a converter; if it cannot, its source after ``lambda``."""
    full = full_name(node, found.names)
    if full in CONVERTERS:
        return full
    if full == "json.dumps":
        return "json"
    module, _, name = full.rpartition(".")
    if module:
        return f"{module}:{name}"
    return ast.unparse(node if isinstance(node, ast.Lambda) else ast.Lambda(NOTHING, node))
