"""One tree of errors.  Each says what happened, where, and what to do next."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

__all__ = (
    "ArgumentNotEncodable",
    "ArgumentUnknown",
    "ConfigurationError",
    "DuplicateCall",
    "InvalidTaskId",
    "InvalidToken",
    "JobtasticError",
    "PolicyError",
    "Problem",
    "ResultsUnavailable",
    "StoreError",
    "StoreUnavailable",
)


class JobtasticError(Exception):
    """The base of every error that jobtastic_ext raises."""


class ConfigurationError(JobtasticError):
    """A setting is missing or cannot work."""


class Problem(NamedTuple):
    """One mistake in a policy file: where it is, what was found, and what to write."""

    #: Path of the file, or ``"<jobtastic_policy>"`` for a mapping given inline.
    source: str
    #: 1-based; 0 where there is no position (an inline mapping).
    line: int
    column: int
    message: str

    def __str__(self) -> str:
        where = f"{self.source}:{self.line}:{self.column}" if self.line else self.source
        return f"{where}: {self.message}"


class PolicyError(ConfigurationError):
    """The policy file has mistakes; ``problems`` holds every one of them."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        count = len(self.problems)
        head = f"{count} mistake{'' if count == 1 else 's'} in the jobtastic policy"
        super().__init__("\n  ".join([f"{head}:", *map(str, self.problems)]))

    def __reduce__(self) -> tuple[type[PolicyError], tuple[tuple[Problem, ...]]]:
        return type(self), (self.problems,)


class ArgumentNotEncodable(JobtasticError, TypeError):
    """A significant argument cannot become part of a call key."""


class ArgumentUnknown(JobtasticError):
    """A call does not tell a significant argument by its name, so it cannot be shared."""


class DuplicateCall(JobtasticError):
    """An identical call is already queued or running (policy ``on_duplicate: raise``)."""

    def __init__(self, task_name: str, task_id: str) -> None:
        self.task_name = task_name
        #: Id of the task that holds the claim.
        self.task_id = task_id
        super().__init__(task_name, task_id)

    def __str__(self) -> str:
        return (
            f"an identical call of {self.task_name} is already under way as task {self.task_id}; "
            "wait for that result, or set `on_duplicate: join` to share it"
        )


class StoreError(JobtasticError):
    """The store of claims refused or could not understand an operation."""


class StoreUnavailable(StoreError):
    """The store of claims did not answer within ``jobtastic_store_timeout``."""


class ResultsUnavailable(JobtasticError):
    """The result backend did not answer."""


class InvalidTaskId(JobtasticError, ValueError):
    """What a page asked for cannot be the id of a task."""


class InvalidToken(JobtasticError):
    """A status token is forged, has expired, or is for another task or user."""
