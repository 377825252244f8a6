"""What is remembered of single messages: that they were given up, or have arrived."""

from __future__ import annotations

from msgspec.structs import replace

from .records import MOST_MARKS, Claim


def given_up(claim: Claim, message: str, until: int) -> Claim:
    return replace(claim, tombstones=marked(claim.tombstones, message, until))


def marked(marks: dict[str, int], message: str, until: int) -> dict[str, int]:
    """Remember what became of a message, and of so many others at most."""
    marks = {**marks, message: until}
    if len(marks) > MOST_MARKS:
        del marks[min(marks, key=lambda name: (marks[name], name))]
    return marks
