"""What is private to Celery and its relatives and used here is known, and still there."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from jobtastic_ext.celery_internals import OPTIONAL, PRIVATE
from tests.workers import ROOT

FILES = [
    path
    for path in sorted((ROOT / "jobtastic_ext").rglob("*.py"))
    if not {"demo", "testing"} & set(path.parts)
]
OTHERS = ("celery", "kombu", "billiard", "vine", "redis")
KNOWN = {name.partition(":")[2] for name in {**PRIVATE, **OPTIONAL}}


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def defined(tree: ast.AST) -> Iterator[str]:
    """Names that the package gives itself: of functions, classes, variables and attributes."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Store):
            mine = isinstance(node, ast.Name) or ast.unparse(node.value) in ("self", "cls")
            if mine:
                yield node.id if isinstance(node, ast.Name) else node.attr


def used(tree: ast.AST) -> Iterator[str]:
    """Private names that are asked of other objects than `self`, or imported from others."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) not in ("self", "cls"):
            yield node.attr
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith(OTHERS):
            private = any(map(is_private, (node.module or "").split(".")))
            yield from (f"_{each.name}" if private else each.name for each in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("getattr", "hasattr"):
            name = node.args[1]
            yield str(name.value) if isinstance(name, ast.Constant) else ""


def test_every_private_name_that_is_used_is_in_the_register() -> None:
    trees = [ast.parse(path.read_text("utf-8")) for path in FILES]
    own = {name for tree in trees for name in defined(tree)}
    unknown = {
        name
        for tree in trees
        for name in used(tree)
        if is_private(name) and name not in own | KNOWN and name.removeprefix("_") not in KNOWN
    }
    assert unknown - {"_state"} == set()  # the module, of which each name is judged
    assert all(reason for reason in {**PRIVATE, **OPTIONAL}.values())


@pytest.mark.parametrize("place", sorted(PRIVATE))
def test_it_is_still_there(place: str) -> None:
    """Of whatever versions are installed; CI runs it on the oldest and the newest."""
    module, _, name = place.partition(":")
    spec = find_spec(module)
    assert spec is not None
    assert spec.origin is not None
    assert re.search(rf"\b{name}\b", Path(spec.origin).read_text("utf-8")), place


def test_nothing_is_kept_in_the_register_that_is_not_used() -> None:
    text = "".join(path.read_text("utf-8") for path in FILES if path.stem != "celery_internals")
    assert [name for name in sorted(KNOWN) if not re.search(rf"\b{name}\b", text)] == []
