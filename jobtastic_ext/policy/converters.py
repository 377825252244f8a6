"""Converters of significant arguments: a word, or the dotted path of a callable."""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Callable
from typing import Any

Converter = Callable[[Any], Any]

_DOTTED_PATH = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")
_DOTS_ONLY = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)+")


class ConverterError(ValueError):
    """The text names no converter; the message says which part of it failed."""


def json_text(value: Any) -> str:
    """Write a value as JSON that is the same for equal values: sorted keys, no spaces.

    Raises `TypeError` for what JSON cannot hold.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


#: The converters that have a name of their own.
CONVERTERS: dict[str, Converter] = {"str": str, "repr": repr, "json": json_text}


def load_converter(spec: str) -> Converter:
    """Give the callable that a converter's name or dotted path means.

    A dotted path ``package.module:callable`` is imported.  Raises `ConverterError`.
    """
    if spec in CONVERTERS:
        return CONVERTERS[spec]
    if _DOTTED_PATH.fullmatch(spec):
        module, _, attributes = spec.partition(":")
        return _callable_in(_imported(module), module, attributes)
    if _DOTS_ONLY.fullmatch(spec):
        module, _, attribute = spec.rpartition(".")
        raise ConverterError(f"did you mean `{module}:{attribute}`?")
    raise ConverterError("")


def _imported(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as exc:
        if exc.name and f"{name}.".startswith(f"{exc.name}."):
            raise ConverterError(f"there is no module `{exc.name}`") from exc
        raise ConverterError(f"importing `{name}` failed: {exc}") from exc
    except (Exception, SystemExit) as exc:  # A user's module may raise anything.
        raise ConverterError(f"importing `{name}` failed: {type(exc).__name__}: {exc}") from exc


def _callable_in(module: Any, name: str, attributes: str) -> Converter:
    target = module
    for attribute in attributes.split("."):
        try:
            target = getattr(target, attribute)
        except AttributeError as exc:
            raise ConverterError(f"`{name}` has no attribute `{attribute}`") from exc
        name = f"{name}.{attribute}"
    if not callable(target):
        raise ConverterError(f"`{name}` is not callable, but of type `{type(target).__name__}`")
    converter: Converter = target
    return converter
