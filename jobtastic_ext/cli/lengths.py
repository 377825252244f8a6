"""Lengths of time, as they are typed and as they are told."""

from __future__ import annotations

import click

from ..policy.fields import DURATION, UNITS


def length(context: click.Context, param: click.Parameter, value: str) -> float:
    """Read an option: seconds, or ``90s``, ``5m``, ``1h``, ``7d``, as in the policy file."""
    found = DURATION.fullmatch(value) or DURATION.fullmatch(f"{value}s")
    if found is None:
        raise click.BadParameter(f"{value!r} is no length of time; write such as 90s, 10m, 6h, 7d")
    return float(found[1]) * UNITS[found[2]]


def lasting(seconds: float) -> str:
    """Write a time as people say it."""
    for length, unit in ((86_400, "d"), (3600, "h"), (60, "m")):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f}{unit}"
    return f"{seconds:.1f}s"
