"""No file is too long to be read at once, and no function to be seen at once."""

from __future__ import annotations

import ast
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "jobtastic_ext"

#: Lines.
LONGEST_FILE, LONGEST_FUNCTION = 480, 50


def test_no_file_and_no_function_is_too_long() -> None:
    too_long = []
    for path in sorted(PACKAGE.rglob("*.py")):
        text = path.read_text("utf-8")
        lines = len(text.splitlines())
        if lines > LONGEST_FILE:
            too_long.append(f"{path.relative_to(PACKAGE)}: {lines} lines")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or 0) - node.lineno + 1
                if lines > LONGEST_FUNCTION:
                    too_long.append(f"{path.relative_to(PACKAGE)}: {node.name} has {lines} lines")
    assert not too_long
