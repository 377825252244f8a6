"""From a call to its key: bind the arguments, take the significant ones, hash them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from hashlib import blake2b
from typing import Any

from ..errors import ArgumentNotEncodable
from .encoding import ABSENT, VARY, canonical, pack, type_name
from .signature import UNSAID, CallSignature

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


def call_key(
    prefix: str,
    cache_prefix: str,
    signature: CallSignature,
    significant: Sequence[tuple[str, Converter | None]] | None,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    vary: Any = None,
) -> str:
    """Return the key of a call: ``prefix:cache_prefix:`` and 32 hexadecimal digits.

    ``significant`` names the arguments that count, in order, each with a converter or None; None
    stands for every argument.  What a converter returns is encoded in place of the argument: after
    `str`, ``1`` and ``"1"`` agree.  ``vary`` is what counts beside them (see `vary`), or None.

    The key has at most 194 characters, all of them letters, digits or ``_.:/%~-``: other ones are
    percent-encoded, a longer prefix is cut and ends in a digest of the whole.

    Raises `TypeError` when the arguments do not fit the signature, `ArgumentUnknown` when the call
    does not tell a significant argument by its name, and `ArgumentNotEncodable` when one has no
    fixed encoding, its converter fails, or `str` or `repr` gives an address in memory, which no
    other process would repeat.
    """
    parts: list[Any] = []
    try:
        if significant is None:
            for name, value in signature.bind(args, kwargs).items():
                form = ABSENT if value is UNSAID else canonical(value, name)
                parts += (name if name.isascii() else canonical(name), form)
        else:
            bound = signature.named(args, kwargs)
            for name, converter in significant:
                if name not in bound:
                    raise signature.unknown(name)
                value = bound[name]
                parts.append(name if name.isascii() else canonical(name))
                if value is UNSAID:
                    parts.append(ABSENT)
                elif converter is None:
                    parts.append(canonical(value, name))
                else:
                    parts.append(_converted(name, converter, value))
        if vary is not None:
            parts.append([VARY, canonical(vary, "headers")])
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
    return f"{keys_head(prefix)}{_safe(cache_prefix, _UNSAFE, _CACHE_PREFIX_LENGTH)}:"


def keys_head(prefix: str) -> str:
    """Return what every key of a deployment begins with."""
    return f"{_safe(prefix, _UNSAFE_IN_PREFIX, _PREFIX_LENGTH)}:"


def history_key(prefix: str, name: str) -> str:
    """Return the key of what past runs of a task took."""
    return _kept_key(prefix, "history", name)


def retry_key(prefix: str, task_id: str) -> str:
    """Return the key of when a task is tried again."""
    return _kept_key(prefix, "retry", task_id)


def counts_key(prefix: str, name: str, hour: int) -> str:
    """Return the key of what was counted of a task in an hour since 1970."""
    return f"{_kept_key(prefix, 'counts', name)}:{hour}"


def _kept_key(prefix: str, kind: str, name: str) -> str:
    """Return the key of what else is kept under a name.

    No call's key looks like it: there, two hexadecimal digits follow a percent sign.
    """
    return f"{keys_head(prefix)}%{kind}:{_safe(name, _UNSAFE, _CACHE_PREFIX_LENGTH)}"


def _safe(text: str, unsafe: re.Pattern[str], length: int) -> str:
    """Percent-encode a text; cut it, when it is long, to end in ``~`` and a digest of the whole."""
    escaped = unsafe.sub(_percent_encode, text)
    if len(escaped) <= length:
        return escaped
    digest = blake2b(escaped.encode(), digest_size=_DIGEST_SIZE).hexdigest()
    return f"{escaped[: length - len(digest) - 1]}~{digest}"


def _percent_encode(match: re.Match[str]) -> str:
    return "".join(f"%{byte:02X}" for byte in match[0].encode("utf-8", "surrogatepass"))
