"""What was found of one task in another library's words, and what becomes of it."""

from __future__ import annotations

import inspect
import json
import os
from collections.abc import Iterable, Mapping
from typing import Any

from msgspec import Struct

from ..policy.converters import CONVERTERS, ConverterError, load_converter

#: What a field says for a time without an end.
FOREVER = "forever"


class Found(Struct, kw_only=True):
    """One task: the fields of its policy, as they stand in the file, and what has no equal."""

    task: str
    #: The library, as pip calls it.
    library: str
    #: Where it is defined, ``file:line``; empty if that is not known.
    place: str = ""
    fields: dict[str, Any] = {}
    #: What whoever reads the policy has to know or to decide.
    remarks: list[str] = []
    #: What that place no longer needs.
    delete: str = ""
    #: Its base class is needed further on, beside the policy.
    stays: bool = False


def is_based_on(task: Any, package: str, name: str) -> bool:
    """Whether a task's class inherits the class `name` of a library's package."""
    return any(
        kind.__name__ == name and kind.__module__.partition(".")[0] == package
        for kind in type(task).__mro__
    )


def place_of(task: Any) -> str:
    """Return ``file:line`` of a task's function, or of its class."""
    for source in (inspect.unwrap(task.run), type(task)):
        try:
            file, line = inspect.getsourcefile(source), inspect.getsourcelines(source)[1]
        except (OSError, TypeError):
            continue
        if file:
            return f"{os.path.relpath(file)}:{line}"
    return ""


def base_of(task: Any, name: str) -> str:
    """Say where a task has the base class `name` from: its decorator, or a class of the project."""
    is_function = "__wrapped__" in vars(type(task))  # of which Celery has made a class
    written = type(task).__mro__[int(is_function)].__name__
    return f"base={name}" if written == name else f"{name} as a base of {written}"


def significant(task: Any, names: Iterable[str], remarks: list[str]) -> dict[str, list[str]]:
    """Return the field ``significant_kwargs``; a remark instead if a name is no parameter."""
    names = list(names)
    unknown = sorted({*names} - {*inspect.signature(task.run).parameters})
    if not unknown:
        return {"significant_kwargs": names}
    remarks += (f"{name} is no parameter of the task; every call failed" for name in unknown)
    remarks.append(
        f"significant_kwargs: [{', '.join(names)}] is left out, so every argument counts"
    )
    return {}


def argument(name: str, converter: Any, remarks: list[str]) -> str | list[str]:
    """Return an item of ``significant_kwargs``; a converter without a name becomes a remark."""
    spelt = spelling(converter)
    if spelt:
        return [name, spelt]
    remarks.append(
        f"{name}: its converter has no name to import it by; "
        f"give it one, and write [{name}, package.module:name]"
    )
    return name


def spelling(converter: Any) -> str:
    """Return how a policy names a callable; empty if it cannot."""
    known: Mapping[Any, str] = {json.dumps: "json", **{v: k for k, v in CONVERTERS.items()}}
    if converter in known:
        return known[converter]
    spelt = f"{converter.__module__}:{getattr(converter, '__qualname__', '')}"
    try:
        return spelt if load_converter(spelt) is converter else ""
    except ConverterError:
        return ""


def without_equal(options: Mapping[str, Any], known: Iterable[str]) -> list[str]:
    """Name the options that say nothing here."""
    return [f"{name}: {options[name]!r} has no equal" for name in sorted({*options} - {*known})]


def either(*values: Any) -> Any:
    """Return the first value that somebody has set."""
    return next((value for value in values if value is not None), None)


def settings_to_delete(conf: Mapping[str, Any], prefix: str) -> list[str]:
    """Say which settings of a library are left in the app's."""
    return [
        f"delete the setting {name}" for name in sorted(map(str, conf)) if name.startswith(prefix)
    ]
