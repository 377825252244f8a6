"""What goes with what: settings that rule each other out, and those that need another one.

The page of decisions in the documentation shows these, and a test holds the two equal.
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from .model import TaskPolicy


class Exclusion(Struct, frozen=True, kw_only=True):
    """A setting, and the fields that have no meaning beside it."""

    field: str
    #: Empty: whatever switches it on.
    value: str = ""
    why: str
    #: What it rules out, and what each of these must be.
    fields: dict[str, str]
    #: What to set in its place.
    instead: str = ""

    def holds(self, policy: TaskPolicy) -> bool:
        found = getattr(policy, self.field)
        return bool(found == self.value if self.value else found)

    @property
    def words(self) -> str:
        return f"{self.field}: {self.value}" if self.value else self.field


CACHES = {
    "cache_duration": "-1",
    "failure_cache_duration": "-1",
    "stale_while_revalidate": "0",
}

EXCLUSIONS = (
    Exclusion(
        field="on_duplicate",
        value="serialize",
        why="runs every call, which excludes caching",
        fields=CACHES,
    ),
    Exclusion(
        field="on_duplicate",
        value="serialize",
        why="runs every call, which excludes unique ones",
        fields={"unique_until": "end", "unique_for": "0"},
        instead="; for one run at a time, and one that waits, set `on_duplicate: buffer_one`",
    ),
    Exclusion(
        field="on_duplicate",
        value="buffer_one",
        why="answers a call by a run that begins after it, which excludes caching",
        fields=CACHES,
    ),
    Exclusion(
        field="on_duplicate",
        value="buffer_one",
        why="lets the next run wait for the end of the present one",
        fields={"unique_until": "end"},
        instead="; to let them run side by side, set `on_duplicate: join`",
    ),
    Exclusion(
        field="on_duplicate",
        value="buffer_one",
        why="answers a call by a run that begins after it",
        fields={"unique_for": "0"},
        instead="; for no second start in a time, set `on_duplicate: join`",
    ),
    Exclusion(
        field="unique_until",
        value="start",
        why="runs a call that comes while an older one runs, which excludes caching",
        fields=CACHES,
        instead="; for no second start in a time, set `unique_for`",
    ),
    Exclusion(
        field="debounce",
        why="answers a call by a run that begins after it, which excludes caching",
        fields=CACHES,
    ),
    Exclusion(
        field="debounce",
        why="answers each call by a later run, and lets that wait for the end of the present one",
        fields={"unique_until": "end", "unique_for": "0"},
        instead="; for no second start in a time, set `unique_for` alone",
    ),
)

WATCH = ("memleak_threshold", "which switches the watch on memory on")
CLAIMS = ("herd_avoidance_timeout", "without which no call is claimed")

#: Fields that mean nothing without another one, and why.
NEEDS = {
    "stale_while_revalidate": ("cache_duration", "after which it begins"),
    "unique_until": CLAIMS,
    "unique_for": CLAIMS,
    "debounce": CLAIMS,
    "debounce_max": ("debounce", "which it bounds"),
    "memleak_trace": WATCH,
    "memleak_action": WATCH,
}

#: What switches a field off that others need; None if it is not here.
OFF: dict[str, Any] = {"herd_avoidance_timeout": 0.0, "debounce": 0.0}
