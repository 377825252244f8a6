"""What holds for a task, written as in the policy file, and who says so."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from .fields import A_THRESHOLD, FIELDS, UNITS
from .loader import PolicySet
from .model import Significant, TaskPolicy

#: What silence means, where no value could be written for it.
SILENT = {
    "significant_kwargs": "every argument",
    "cache_prefix": "the task's name",
    "estimate_by": "one history for the task",
}


def in_force(policies: PolicySet, policy: TaskPolicy) -> Iterator[str]:
    """Yield every field with its value, those of the file without a mark."""
    for name in FIELDS:
        value = getattr(policy, name)
        origin = policies.origin(policy.pattern, name)
        mark = {"task": "", "defaults": " (from `defaults`)", "silence": " (by default)"}[origin]
        yield f"{name}: {written(name, value)}{mark}"


def as_data(policies: PolicySet, policy: TaskPolicy) -> dict[str, dict[str, str]]:
    """Return every field with its value, and whether `task`, `defaults` or `silence` says so."""
    return {
        name: {
            "value": written(name, getattr(policy, name)),
            "from": policies.origin(policy.pattern, name),
        }
        for name in FIELDS
    }


def written(name: str, value: Any) -> str:
    """Write a field's value as the file has it."""
    if value is None:
        return SILENT.get(name, "-1")
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return f"[{', '.join(map(item, value))}]"
    if isinstance(value, float) and FIELDS[name].kind is not A_THRESHOLD:
        return duration(value)
    return f"{value:.15g}" if isinstance(value, float) else str(value)


def item(value: Significant | str) -> str:
    if isinstance(value, str):
        return value
    return value.name if value.converter is None else f"[{value.name}, {value.converter}]"


def duration(seconds: float) -> str:
    """Write seconds in the largest unit of which they are a whole number."""
    if math.isinf(seconds):
        return "forever"
    if not seconds:
        return "0"
    for unit, length in sorted(UNITS.items(), key=lambda pair: -pair[1]):
        count = round(seconds / length)
        if count and math.isclose(count * length, seconds):
            return f"{count}{unit}"
    return f"{seconds:.15g}s"
