"""Writes a policy file with a comment for what has no equal."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterator
from typing import Any

from ..policy.fields import FIELDS
from .collected import Collected
from .found import Found

HEADER = """\
# From `celery jobtastic import`.  `celery jobtastic check` says what it means for each task.
# Headers of a call and a queue named in it tell calls apart, too: `vary: []` for arguments alone.
"""

#: Fields whose numbers are seconds.
TIMES = ("herd_avoidance_timeout", "cache_duration", "unique_for")
UNITS = ((86_400, "d"), (3_600, "h"), (60, "m"))

#: Text that YAML reads as the text it is.
PLAIN = re.compile(r"[A-Za-z_]([\w.:*-]*[\w.*])?")
#: ... save for these, of which YAML 1.1 makes something else.
WORDS = {"yes", "no", "on", "off", "true", "false", "null", "none", "y", "n"}

WIDTH = 96


def policy_of(collected: Collected) -> dict[str, Any]:
    """Return the policy as a mapping, such as the setting ``jobtastic_policy`` takes."""
    return {"tasks": {each.task: known_fields(each) for each in collected.told}}


def known_fields(found: Found) -> dict[str, Any]:
    return {name: duration(name, value) for name, value in found.fields.items() if name in FIELDS}


def policy_text(collected: Collected) -> str:
    """Return the policy as a file."""
    lines = ["tasks:" if collected.told else "tasks: {}"]
    for each in collected.found:
        lines += section(each)
    return HEADER + "\n".join(lines) + "\n"


def section(found: Found) -> Iterator[str]:
    """Yield the lines of one task."""
    remarks = [*found.remarks]
    remarks += (
        f"{name}: {scalar(duration(name, value))} is not in this version"
        for name, value in found.fields.items()
        if name not in FIELDS
    )
    yield f"  # {' '.join(filter(None, [found.library, found.place]))}"
    if not found.fields:
        remarks.insert(0, f"{found.task}: no policy")
    for remark in remarks:
        yield from as_comments(remark, "  # ")
    if found.fields:
        yield f"  {scalar(found.task)}:"
        for name, value in known_fields(found).items():
            yield f"    {name}: {scalar(value)}"


def as_comments(text: str, prefix: str = "# ") -> list[str]:
    """Return text as lines of a comment; what belongs to the first is indented."""
    return textwrap.wrap(
        text,
        WIDTH,
        initial_indent=prefix,
        subsequent_indent=prefix.replace("-", " ") + " " * (not prefix.endswith("- ")) * 2,
        break_long_words=False,
        break_on_hyphens=False,
    )


def duration(name: str, value: Any) -> Any:
    """Return a time as people write it."""
    if name not in TIMES or not isinstance(value, int | float) or value <= 0:
        return value
    for length, unit in UNITS:
        if value % length == 0:
            return f"{value // length:.0f}{unit}"
    return value


def scalar(value: Any) -> str:
    """Return a value as YAML.  JSON is YAML, but for what looks like something else unquoted."""
    if isinstance(value, list):
        return f"[{', '.join(map(scalar, value))}]"
    if isinstance(value, str):
        is_plain = PLAIN.fullmatch(value) and value.lower() not in WORDS
        return value if is_plain or re.fullmatch(r"\d+[smhd]", value) else json.dumps(value)
    return json.dumps(value)
