"""Which exceptions speak to everybody: those that the app has named."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ..errors import ConfigurationError

#: The attribute of an exception's class that says that its words are for everybody.
MARK = "jobtastic_public"

#: What is said in place of words that are not for everybody.
PRIVATE = "Something went wrong. If you ask for help, please quote {id}"


def names_of(messages: object, exceptions: object) -> frozenset[str] | None:
    """Return the names of the classes that are public; None if all are.

    Raises `ConfigurationError` for options that mean nothing.
    """
    if messages not in ("all", "public"):
        raise ConfigurationError(
            f'`messages` of a status view is "all" or "public"; this is {messages!r}'
        )
    if isinstance(exceptions, str | bytes) or not isinstance(exceptions, Iterable):
        raise ConfigurationError("`public_exceptions` of a status view has to be a list")
    names = frozenset(map(name_of, exceptions))
    if messages == "public":
        return names
    if names:
        raise ConfigurationError('`public_exceptions` means nothing without `messages="public"`')
    return None


def name_of(exception: object) -> str:
    """Return the dotted name of a class of exceptions, given itself or by its name."""
    if isinstance(exception, str) and "." in exception:
        return exception
    if isinstance(exception, type) and issubclass(exception, BaseException):
        return f"{exception.__module__}.{exception.__qualname__}"
    raise ConfigurationError(
        "`public_exceptions` of a status view names classes of exceptions, or their dotted names "
        f"(builtins.ValueError); {exception!r} is neither"
    )


def is_public(names: frozenset[str] | None, stored: Any, error: BaseException | None) -> bool:
    """Whether the words of an exception are for everybody.

    `stored` tells its name where this process does not know its class; `error` is the exception
    made again, whose class may be one that Celery has made up.
    """
    if names is None:
        return True
    if isinstance(stored, Mapping):
        told = f"{stored.get('exc_module')}.{stored.get('exc_type')}"
        if told in names:
            return True
        if error is not None and name_of(type(error)) != told:
            return False  # made up by Celery: it has neither the name nor the bases
    kind = type(error) if error is not None else None
    if kind is None:
        return False
    return getattr(kind, MARK, False) is True or not names.isdisjoint(
        map(name_of, kind.__mro__[:-1])
    )
