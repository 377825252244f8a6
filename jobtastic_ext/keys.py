"""From a call to its key: bind the arguments, take the significant ones, hash them."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from hashlib import blake2b
from typing import Any

from .encoding import ABSENT, canonical, pack, type_name
from .errors import ArgumentNotEncodable, ConfigurationError

__all__ = ("CallSignature", "Converter", "call_key")

Converter = Callable[[Any], object]

#: Longest a `cache_prefix` may be inside a key, and longest the key prefix.  With the digest and
#: what Django's cache adds, a key stays below memcached's 250 bytes.
_CACHE_PREFIX_LENGTH = 100
_PREFIX_LENGTH = 60

_DIGEST_SIZE = 16
_UNSAFE = re.compile(r"[^A-Za-z0-9_.-]")
_UNSAFE_IN_PREFIX = re.compile(r"[^A-Za-z0-9_.:/-]")

#: The default `object.__repr__` and its kind: ``<app.User object at 0x7f…>``.
_MEMORY_ADDRESS = re.compile(r" at 0x[0-9A-Fa-f]")

_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


class CallSignature:
    """What a task's ``run`` takes: turns the arguments of a call into names and values.

    Built once per task from ``task.run`` (bound, or without ``self``).  Wrappers made with
    `functools.wraps` are looked through.  ``name`` is what errors call the task.  Raises
    `ConfigurationError` for a callable whose signature cannot be read.
    """

    __slots__ = (
        "_keywords",
        "_positional",
        "_required",
        "_signature",
        "_template",
        "name",
        "names",
    )

    def __init__(self, run: Callable[..., Any], name: str | None = None) -> None:
        self.name = name or str(getattr(run, "__qualname__", type(run).__qualname__))
        try:
            self._signature = inspect.signature(run)
        except ValueError as error:
            raise ConfigurationError(
                f"the signature of {self.name} cannot be read, so its calls cannot be told apart; "
                "wrap it in a Python function"
            ) from error
        parameters = self._signature.parameters.values()
        #: Name of the parameter ``**name``, or None.
        self._keywords = next((p.name for p in parameters if p.kind is p.VAR_KEYWORD), None)
        #: Names of the arguments in the order of the signature, without that of ``**kwargs``.
        self.names = tuple(p.name for p in parameters if p.kind is not p.VAR_KEYWORD)
        #: Of an ordinary signature, the names that a position can fill; else None.
        self._positional: tuple[str, ...] | None = None
        if not any(p.kind is p.POSITIONAL_ONLY or p.kind in _VARIADIC for p in parameters):
            self._positional = tuple(
                p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD
            )
        self._required = frozenset(p.name for p in parameters if p.default is p.empty)
        self._template = {p.name: p.default for p in parameters}

    def takes(self, name: str) -> bool:
        """Tell whether a call may have an argument of this name."""
        return self._keywords is not None or name in self.names

    def bind(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """Return every argument of a call by name, defaults applied, in a fixed order.

        However a call is spelt, the result is the same.  ``*args`` is a tuple under its name.
        What ``**kwargs`` collects follows by its own names, sorted; where such a name is also
        that of a parameter (positional-only, or ``*args``), it is written ``**name``.
        Raises `TypeError` when the arguments do not fit.
        """
        positional = self._positional
        if positional is None:
            return self._bind_any(args, kwargs)
        given = dict(zip(positional, args, strict=False))
        if kwargs:
            given.update(kwargs)
        bound = {**self._template, **given}
        if (
            len(given) != len(args) + len(kwargs)
            or len(bound) != len(self._template)
            or not self._required <= given.keys()
        ):
            self._bind_any(args, kwargs)  # raises, and says what is wrong
            raise TypeError(f"{self.name}: the arguments do not fit")
        return bound

    def _bind_any(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        try:
            call = self._signature.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{self.name}: {error}") from None
        call.apply_defaults()
        bound = call.arguments
        if self._keywords is not None:
            extra = bound.pop(self._keywords)
            bound.update((self._name_of(name), extra[name]) for name in sorted(extra))
        return bound

    def _name_of(self, name: str) -> str:
        return f"**{name}" if name in self.names or name.startswith("**") else name


def call_key(
    prefix: str,
    cache_prefix: str,
    signature: CallSignature,
    significant: Sequence[tuple[str, Converter | None]] | None,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
) -> str:
    """Return the key of a call: ``prefix:cache_prefix:`` and 32 hexadecimal digits.

    ``significant`` names the arguments that count, in order, each with a converter or None; None
    stands for every argument.  What a converter returns is encoded in place of the argument: after
    `str`, ``1`` and ``"1"`` agree.  An argument that the call lacks differs from one that is None.

    The key has at most 194 characters, all of them letters, digits or ``_.:/%~-``: other ones are
    percent-encoded, a longer prefix is cut and ends in a digest of the whole.

    Raises `TypeError` when the arguments do not fit the signature, and `ArgumentNotEncodable`
    when one has no fixed encoding, its converter fails, or `str` or `repr` gives an address in
    memory, which no other process would repeat.
    """
    bound = signature.bind(args, kwargs)
    parts: list[Any] = []
    try:
        if significant is None:
            for name, value in bound.items():
                parts += (name if name.isascii() else canonical(name), canonical(value, name))
        else:
            for name, converter in significant:
                parts.append(name if name.isascii() else canonical(name))
                if name not in bound:
                    parts.append(ABSENT)
                elif converter is None:
                    parts.append(canonical(bound[name], name))
                else:
                    parts.append(_converted(name, converter, bound[name]))
    except ArgumentNotEncodable as error:
        raise ArgumentNotEncodable(f"{signature.name}: {error}") from error.__cause__
    return (
        key_head(prefix, cache_prefix) + blake2b(pack(parts), digest_size=_DIGEST_SIZE).hexdigest()
    )


def _converted(name: str, converter: Converter, value: Any) -> Any:
    """Return the canonical form of what the converter makes of an argument."""
    try:
        result = converter(value)
    except Exception as error:
        raise ArgumentNotEncodable(
            f"the converter {_converter_name(converter)} of argument {name} raised "
            f"{type(error).__name__} for a value of type {type_name(type(value))}; "
            "mend it, or name another one in significant_kwargs"
        ) from error
    if (converter is str or converter is repr) and _shows_address(value, str.__str__(result)):
        raise ArgumentNotEncodable(
            f"{converter.__name__} of argument {name} (of type {type_name(type(value))}) "
            "contains an address in memory, which differs in every process; name a converter "
            'of your own in significant_kwargs, as in [user, "myapp.keys:user_pk"]'
        )
    return canonical(result, f"{_converter_name(converter)}({name})")


def _shows_address(value: object, text: str) -> bool:
    opened = text.find("<")
    return opened >= 0 and type(value) is not str and bool(_MEMORY_ADDRESS.search(text, opened))


def _converter_name(converter: Converter) -> str:
    module = getattr(converter, "__module__", "builtins")
    name = getattr(converter, "__qualname__", type(converter).__qualname__)
    return name if module == "builtins" else f"{module}:{name}"


@lru_cache(maxsize=1024)
def key_head(prefix: str, cache_prefix: str) -> str:
    """Return everything of a key before its digest, safe in Redis and memcached."""
    return (
        f"{_safe(prefix, _UNSAFE_IN_PREFIX, _PREFIX_LENGTH)}:"
        f"{_safe(cache_prefix, _UNSAFE, _CACHE_PREFIX_LENGTH)}:"
    )


def history_key(prefix: str, name: str) -> str:
    """Return the key of what past runs of a task took.

    No call's key looks like it: there, two hexadecimal digits follow a percent sign.
    """
    head = _safe(prefix, _UNSAFE_IN_PREFIX, _PREFIX_LENGTH)
    return f"{head}:%history:{_safe(name, _UNSAFE, _CACHE_PREFIX_LENGTH)}"


def _safe(text: str, unsafe: re.Pattern[str], length: int) -> str:
    """Percent-encode a text; cut it, when it is long, to end in ``~`` and a digest of the whole."""
    escaped = unsafe.sub(_percent_encode, text)
    if len(escaped) <= length:
        return escaped
    digest = blake2b(escaped.encode(), digest_size=_DIGEST_SIZE).hexdigest()
    return f"{escaped[: length - len(digest) - 1]}~{digest}"


def _percent_encode(match: re.Match[str]) -> str:
    return "".join(f"%{byte:02X}" for byte in match[0].encode("utf-8", "surrogatepass"))
