"""What of the fields that say when a run begins, and with whose arguments, is a contradiction."""

from __future__ import annotations

from collections.abc import Iterator

from .model import TaskPolicy

#: The fields that say when a run begins, and with whose arguments.
IN_TIME = ("debounce", "debounce_max", "arguments")


def contradictions(policy: TaskPolicy) -> Iterator[tuple[str, str]]:
    """Yield each field that contradicts another one, and what to do."""
    debounced, longest = policy.debounce > 0, policy.debounce_max
    if debounced and longest is not None and longest <= policy.debounce:
        yield (
            "debounce_max",
            "`debounce_max` must be longer than `debounce`, or no call would ever be put off; "
            "without it, it is ten times `debounce`",
        )
    if policy.arguments == "last" and not debounced and policy.on_duplicate != "buffer_one":
        yield (
            "arguments",
            "`arguments: last` needs `debounce` or `on_duplicate: buffer_one`: nothing else waits "
            "for further calls",
        )
    if debounced and policy.on_duplicate in ("serialize", "raise"):
        yield (
            "on_duplicate",
            f"`debounce` shares one run, so `on_duplicate: {policy.on_duplicate}` excludes it; "
            "leave `on_duplicate` out",
        )
