"""What is wrong with a policy, and where."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import NamedTuple, NoReturn

from ..errors import PolicyError, Problem

#: What a mapping given inline is called in errors.
INLINE_SOURCE = "<jobtastic_policy>"


class Place(NamedTuple):
    """Where a value stands: a 1-based line and column, or its path in an inline mapping."""

    line: int
    column: int
    #: Such as ``tasks.reports.divide.cache_duration``; empty in a file.
    path: str = ""

    def __str__(self) -> str:
        return f"on line {self.line}" if self.line else f"`{self.path}`"


#: No position: the file could not be read, or the inline mapping as a whole is meant.
NOWHERE = Place(0, 0)


class Report:
    """Gathers mistakes, so that all of them can be told at once."""

    def __init__(self, source: str) -> None:
        self.source = source
        #: A dict, because a value that aliases repeat is one mistake.
        self._problems: dict[Problem, None] = {}

    def problem(self, place: Place, message: str) -> Problem:
        """Locate a message, without keeping it."""
        text = f"{place.path}: {message}" if place.path else message
        return Problem(self.source, place.line, place.column, text)

    def add(self, place: Place, message: str) -> None:
        """Keep one mistake."""
        self.keep(self.problem(place, message))

    def keep(self, problem: Problem) -> None:
        """Keep a mistake that has its place already."""
        self._problems[problem] = None

    def stop(self, place: Place, message: str) -> NoReturn:
        """Keep a mistake after which reading on makes no sense, and raise `PolicyError`."""
        self.add(place, message)
        self.raise_problems()
        raise AssertionError("unreachable")

    def raise_problems(self) -> None:
        """Raise `PolicyError` if there was any mistake, in the order of the file."""
        if self._problems:
            raise PolicyError(sorted(self._problems, key=lambda p: (p.line, p.column)))


def quoted(text: str) -> str:
    """Put text from a policy between backticks: printable, and at most 60 characters."""
    if not text.isprintable():
        text = text.encode("unicode_escape").decode("ascii")
    return f"`{text if len(text) <= 60 else text[:57] + '...'}`"


def did_you_mean(word: str, names: Iterable[str]) -> str:
    """Suggest the nearest name, as the end of a message; empty if none is near."""
    near = difflib.get_close_matches(word, names, n=1) if len(word) <= 64 else []
    return f"; did you mean `{near[0]}`?" if near else ""
