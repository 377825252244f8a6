"""What may be said of a driver's error: in the log its words, on pages and in results its type.

Drivers put what they were given into their errors: SQLAlchemy the statement with the whole message,
a URL parser a part of the password, Redis the beginning of a command.
"""

from __future__ import annotations

import re

#: Packages whose errors say what went wrong with a connection, and little else.
PLAIN = ("amqp", "jobtastic_ext", "kombu", "redis", "socket", "ssl")

#: What is in front of the host of a URL, and what follows an echoed command or a value.
CREDENTIALS = re.compile(r"//[^/\s]*@")
ECHO = re.compile(r"with args|\[SQL|\[parameters|[{\\]|\b[bu]?['\"]\S*['\"]:|\S{100}")

#: The most characters of an error.
LONGEST = 300


def kind(error: BaseException) -> str:
    """Return the type of an error, of the one beneath where Celery's library wraps a driver's."""
    return type(beneath(error)).__name__


def in_log(error: BaseException) -> str:
    """Return an error as a log may have it: its type, and its words where they hold no secret."""
    error = beneath(error)
    name = type(error).__name__
    package = type(error).__module__.partition(".")[0]
    if package not in PLAIN and not isinstance(error, OSError):
        return name
    words = CREDENTIALS.sub("//", str(error).partition("\n")[0])
    words = ECHO.split(words, maxsplit=1)[0].strip()[:LONGEST]
    return f"{name}: {words}" if words else name


def beneath(error: BaseException) -> BaseException:
    """Return the driver's own error, where kombu has raised one of its own from it."""
    wraps = type(error).__module__.startswith("kombu.") and error.__cause__ is not None
    return error.__cause__ if wraps and error.__cause__ is not None else error
