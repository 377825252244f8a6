"""Pages of the reference that cannot be stale: tables of what stands in the source.

    ```{from-source} settings
    ```

knows `fields`, `settings`, `commands`, `log-lines` and `words`.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
from docutils import nodes
from docutils.statemachine import StringList
from msgspec.structs import fields as struct_fields
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

import jobtastic_ext
from jobtastic_ext.cli import jobtastic
from jobtastic_ext.decisions import CALLS, EVENTS, MESSAGES, OUTCOMES
from jobtastic_ext.policy.fields import FIELDS
from jobtastic_ext.settings import NAMES, PREFIX, Settings

PACKAGE = Path(jobtastic_ext.__file__).parent

#: What a level of the log is called, by the logger's method.
LEVELS = {"exception": "ERROR", "warning": "WARNING", "error": "ERROR", "info": "INFO"}


def fields() -> Iterator[str]:
    yield "| field | default | meaning |\n|---|---|---|"
    for name, field in FIELDS.items():
        default = "" if field.written_default is None else f"`{literal(field.written_default)}`"
        where = "" if field.common else " Not in `defaults`."
        yield f"| `{name}` | {default} | {cell(field.meaning)}{where} |"


def literal(value: Any) -> str:
    return json.dumps(value) if isinstance(value, bool | list) else str(value)


def settings() -> Iterator[str]:
    defaults = {field.name: field.default for field in struct_fields(Settings)}
    yield "| setting | default | meaning |\n|---|---|---|"
    for name, meaning in NAMES.items():
        yield f"| `{PREFIX}{name}` | {shown(defaults.get(name))} | {cell(meaning)} |"


def shown(default: Any) -> str:
    return f"`{default:g}`" if isinstance(default, float) else ""


def commands() -> Iterator[str]:
    for name, command in sorted(jobtastic.commands.items()):
        context = click.Context(command, info_name=f"celery -A proj jobtastic {name}")
        usage = command.get_usage(context).removeprefix("Usage: ")
        yield f"## `{name}`\n\n```text\n{usage}\n```\n\n{command.help}\n"
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                yield f"- `{', '.join(parameter.opts)}`: {parameter.help}"
        yield ""


def log_lines() -> Iterator[str]:
    yield "| level | line | from |\n|---|---|---|"
    found = set()
    for path in sorted(PACKAGE.rglob("*.py")):
        if "demo" in path.parts:
            continue
        place = path.relative_to(PACKAGE.parent).as_posix()
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            level, line = logged(node)
            if line:
                found.add((level, line, place))
    for level, line, place in sorted(found):
        yield f"| {level} | `{cell(line)}` | `{place}` |"


def logged(node: ast.AST) -> tuple[str, str]:
    """Return level and text of a call of a logger; an empty text for everything else."""
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
        return "", ""
    is_logger = ast.unparse(node.func.value) == "logger"
    level = LEVELS.get(node.func.attr, "")
    message = node.args[0] if node.args else None
    if not is_logger or not level or not isinstance(message, ast.Constant):
        return "", ""
    return level, str(message.value)


def cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def words() -> Iterator[str]:
    for title, listed in (
        ("What becomes of a call", CALLS),
        ("What becomes of a message in a worker", MESSAGES),
        ("How a run ends", OUTCOMES),
        ("What happens beside", EVENTS),
    ):
        yield f"## {title}\n\n| word | signal | meaning |\n|---|---|---|"
        for each in listed:
            yield f"| {each.word} | `{each.signal}` | {cell(each.meaning)} |"
        yield ""


SOURCES: dict[str, Callable[[], Iterator[str]]] = {
    "fields": fields,
    "settings": settings,
    "commands": commands,
    "log-lines": log_lines,
    "words": words,
}


class FromSource(SphinxDirective):
    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        lines = "\n".join(SOURCES[self.arguments[0]]()).splitlines()
        parent = nodes.section()
        self.state.nested_parse(StringList(lines, self.arguments[0]), 0, parent, match_titles=True)
        return list(parent.children)


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("from-source", FromSource)
    return {"parallel_read_safe": True}
