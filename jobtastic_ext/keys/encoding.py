"""One byte string for one value: the canonical encoding behind every call key.

A value is first rewritten to a *canonical form*, made only of what MessagePack keeps apart by
itself: None, bool, int of 64 bits, float, text, bytes, list and dict with text keys.  Everything
else becomes a list whose first item is a tag (an empty extension), which no value can produce.
Hence two values share an encoding only where that is meant:

- as JSON messages make them alike: list and tuple (also named), a subclass of a JSON type and that
  type (``IntEnum`` and ``StrEnum`` among them), an object with ``__json__()`` and what it returns;
- bytes, bytearray and memoryview; every ``Mapping`` and a dict; a set and a frozenset; all NaNs.

``1``, ``1.0`` and ``True`` differ, and so do the keys ``1`` and ``"1"``.  The order of a dict or
set does not count.  The bytes do not depend on process, hash seed or version of Python.
They are kept in stores: whoever changes them makes every cache in production cold.
"""

from __future__ import annotations

import dataclasses
import ipaddress as ip
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, Flag
from fractions import Fraction
from functools import cached_property
from math import isnan
from pathlib import PurePath, PureWindowsPath
from typing import Any
from uuid import UUID

import msgspec
from msgspec.msgpack import Ext

from ..errors import ArgumentNotEncodable

#: Values nested deeper than this are refused; so are values that contain themselves.
MAX_DEPTH = 100

#: Lists at least this long are offered to msgspec as a whole; below, a plain loop is faster.
_WHOLE = 8

#: What MessagePack can hold; other ints are written in hexadecimal, which has no limit of length.
_LOWEST, _HIGHEST = -(2**63), 2**64 - 1

_PATH_PARTS = 8
_KEY_LENGTH = 40

#: Stands where an argument would, when the call does not have it.
ABSENT = Ext(0, b"")

# The numbers are part of the encoding.
_TEXT = Ext(1, b"")
_INT = Ext(2, b"")
_NAN = Ext(3, b"")
_COMPLEX = Ext(4, b"")
_SET = Ext(5, b"")
_MAPPING = Ext(6, b"")
_RANGE = Ext(7, b"")
_DATETIME = Ext(8, b"")
_DATE = Ext(9, b"")
_TIME = Ext(10, b"")
_TIMEDELTA = Ext(11, b"")
_DECIMAL = Ext(12, b"")
_FRACTION = Ext(13, b"")
_UUID = Ext(14, b"")
_ENUM = Ext(15, b"")
_FLAG = Ext(16, b"")
_PATH = Ext(17, b"")
_ADDRESS = Ext(18, b"")
_NETWORK = Ext(19, b"")
_INTERFACE = Ext(20, b"")
_OBJECT = Ext(21, b"")
#: Before what tells calls apart and is no argument.
VARY = Ext(22, b"")

_Handler = Callable[[Any, int], Any]

#: Packs a canonical form, dicts in the order of their keys.
pack: Callable[[Any], bytes] = msgspec.msgpack.Encoder(order="deterministic").encode


def canonical(value: object, name: str = "value") -> Any:
    """Return the canonical form of a value, ready to be packed, alone or inside a list.

    Raises `ArgumentNotEncodable`, and nothing else, for a value that has none.
    """
    try:
        handler = _PLAIN.get(type(value))
        return _other(value, 0) if handler is None else handler(value, 0)
    except _Refused as refused:
        raise ArgumentNotEncodable(refused.describe(name)) from refused.__cause__
    except Exception as error:
        failed = _Refused(value, f"reading it raised {type(error).__name__}")
        raise ArgumentNotEncodable(failed.describe(name)) from error


class _Refused(Exception):
    """A value has no canonical form; the path to it grows on the way out."""

    def __init__(self, value: object, reason: str) -> None:
        self.type_name = type_name(type(value))
        self.reason = reason
        self.path: list[str] = []

    def describe(self, name: str) -> str:
        parts = self.path[::-1]
        path = "".join(parts[:_PATH_PARTS]) + ("…" if len(parts) > _PATH_PARTS else "")
        return (
            f"argument {name}{path} (of type {self.type_name}) cannot be part of a call key: "
            f"{self.reason}; give the argument a converter in significant_kwargs, as in "
            '[user, "myapp.keys:user_pk"], or leave it out of significant_kwargs'
        )


def type_name(cls: type) -> str:
    """Return a type's name for a message, whatever its metaclass does."""
    try:
        return f"{cls.__module__}.{cls.__qualname__}".removeprefix("builtins.")
    except Exception:  # noqa: BLE001 - a metaclass may do anything; the name is only for reading
        return "<unreadable>"


def _form(value: object, depth: int) -> Any:
    handler = _PLAIN.get(type(value))
    return _other(value, depth) if handler is None else handler(value, depth)


def _other(value: object, depth: int) -> Any:
    """Rewrite what is not exactly a plain built-in, and so may run code of its own."""
    try:
        return _by_family(value, depth)
    except _Refused:
        raise
    except Exception as error:
        raise _Refused(value, f"reading it raised {type(error).__name__}") from error


def _by_family(value: Any, depth: int) -> Any:
    cls = type(value)
    for base, handler in _JSON_FAMILIES:
        if issubclass(cls, base):
            return handler(value, depth)
    if hasattr(cls, "__json__"):
        _check_depth(value, depth)
        return _form(value.__json__(), depth + 1)
    for base, handler in _FAMILIES:
        if issubclass(cls, base):
            return handler(value, depth)
    names = _field_names(value, cls)
    if names is not None:
        return _object(value, names, depth)
    if issubclass(cls, Mapping):
        return _pairs(value, value.items(), depth)
    raise _Refused(value, "values of this type have no fixed encoding")


def _check_depth(value: object, depth: int) -> None:
    if depth >= MAX_DEPTH:
        raise _Refused(value, f"it is nested more than {MAX_DEPTH} levels deep, or in itself")


# Scalars


def _itself(value: Any, depth: int) -> Any:
    return value


def _str(value: str, depth: int) -> Any:
    return value if _is_unicode(value) else [_TEXT, value.encode("utf-8", "surrogatepass")]


def _is_unicode(text: str) -> bool:
    """Tell whether a text has no lone surrogates, which MessagePack cannot hold."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _int(value: int, depth: int) -> Any:
    return value if _LOWEST <= value <= _HIGHEST else [_INT, f"{value:x}"]


def _float(value: float, depth: int) -> Any:
    return value if value == value else [_NAN]


def _complex(value: complex, depth: int) -> Any:
    return [_COMPLEX, _float(value.real, depth), _float(value.imag, depth)]


def _memory(value: memoryview, depth: int) -> Any:
    if value.format != "B" or value.ndim != 1:
        raise _Refused(value, "only a one-dimensional memoryview of bytes has a fixed encoding")
    return value.tobytes()


# Containers


def _sequence(value: list[Any] | tuple[Any, ...], depth: int) -> Any:
    _check_depth(value, depth)
    if len(value) >= _WHOLE:
        whole = _whole(value)
        if whole is not None:
            return whole
    forms: list[Any] = []
    add = forms.append
    handler_of = _PLAIN.get
    try:
        for item in value:
            handler = handler_of(type(item))
            add(_other(item, depth + 1) if handler is None else handler(item, depth + 1))
    except _Refused as refused:
        refused.path.append(f"[{len(forms)}]")
        raise
    return forms


def _whole(value: list[Any] | tuple[Any, ...]) -> msgspec.Raw | None:
    """Pack a list of only ints, only text or only floats in C, to the bytes the loop would give.

    For 10,000 ints this takes 70 µs, a loop 900.
    """
    kind = type(value[0])
    try:
        if kind is int:
            # Refuses bool, float and Decimal; makes int subclasses, IntEnum too, plain ints.
            return msgspec.Raw(pack(msgspec.convert(value, list[int])))
        if kind is str:
            # A str-mixin Enum is packed as its text; any other subclass of str makes pack raise.
            return msgspec.Raw(pack(msgspec.convert(value, list[str])))
        # msgspec takes a Decimal for a float, so look at the types themselves; a sum shows a NaN.
        if kind is float and [*map(type, value)].count(float) == len(value):
            return None if isnan(sum(value)) else msgspec.Raw(pack(value))
    except (msgspec.ValidationError, OverflowError, TypeError, UnicodeEncodeError):
        pass
    return None


def _dict(value: dict[Any, Any], depth: int) -> Any:
    for key in value:
        if type(key) is not str or not (key.isascii() or _is_unicode(key)):
            return _pairs(value, value.items(), depth)
    _check_depth(value, depth)
    forms: dict[str, Any] = {}
    handler_of = _PLAIN.get
    key = ""
    try:
        for key, item in value.items():
            handler = handler_of(type(item))
            forms[key] = _other(item, depth + 1) if handler is None else handler(item, depth + 1)
    except _Refused as refused:
        refused.path.append(_subscript(key))
        raise
    return forms


def _pairs(value: object, items: Iterable[tuple[Any, Any]], depth: int) -> Any:
    """Rewrite a mapping with keys of any type, or of its own making."""
    _check_depth(value, depth)
    keys: list[Any] = []
    forms: list[Any] = []
    key: Any = None
    try:
        for key, item in items:
            keys.append(_form(key, depth + 1))
            forms.append(_form(item, depth + 1))
    except _Refused as refused:
        refused.path.append(_subscript(key))
        raise
    if all(type(key) is str for key in keys) and len(set(keys)) == len(keys):
        return dict(zip(keys, forms, strict=True))
    return [_MAPPING, *sorted(pack(k) + pack(form) for k, form in zip(keys, forms, strict=True))]


def _subscript(key: object) -> str:
    if type(key) is int and abs(key) < 10**_KEY_LENGTH:
        return f"[{key}]"
    if type(key) is str:
        return f"[{json.dumps(key if len(key) <= _KEY_LENGTH else key[:_KEY_LENGTH] + '…')}]"
    return f"[<{type_name(type(key))}>]"


def _set(value: Iterable[Any], depth: int) -> Any:
    _check_depth(value, depth)
    try:
        return [_SET, *sorted([pack(_form(item, depth + 1)) for item in value])]
    except _Refused as refused:
        refused.path.append("{…}")
        raise


def _range(value: range, depth: int) -> Any:
    """Rewrite a range so that ranges of the same numbers agree, as they do for ``==``."""
    if not value:
        return [_RANGE]
    first, last = value[0], value[-1]
    return [_RANGE, *(_int(n, depth) for n in (first, last, value.step if first != last else 0))]


# Families: subclasses count as their base


def _list_like(value: list[Any], depth: int) -> Any:
    return _sequence([*list.__iter__(value)], depth)


def _tuple_like(value: tuple[Any, ...], depth: int) -> Any:
    return _sequence([*tuple.__iter__(value)], depth)


def _datetime(value: datetime, depth: int) -> Any:
    # The base's text is what a message carries.  pandas' Timestamp holds more than the base.
    return [_DATETIME, datetime.isoformat(value), *_nanoseconds(value, "nanosecond")]


def _time(value: time, depth: int) -> Any:
    return [_TIME, time.isoformat(value)]


def _timedelta(value: timedelta, depth: int) -> Any:
    parts: list[Any] = [value.days, value.seconds, value.microseconds]
    parts += _nanoseconds(value, "nanoseconds")
    years, months = getattr(value, "years", 0), getattr(value, "months", 0)
    if years or months:  # pendulum's: a month is not the 30 days that the base holds
        parts.append(f"P{years}Y{months}M")
    return [_TIMEDELTA, *parts]


def _nanoseconds(value: object, name: str) -> list[int]:
    count = getattr(value, name, 0)
    return [int(count)] if count else []


def _decimal(value: Decimal, depth: int) -> Any:
    # Whether "e" or "E" is written depends on the decimal context of the thread.
    return [_DECIMAL, Decimal.__str__(value).upper()]


def _fraction(value: Fraction, depth: int) -> Any:
    return [_FRACTION, _int(value.numerator, depth), _int(value.denominator, depth)]


def _path(value: PurePath, depth: int) -> Any:
    flavour = "windows" if isinstance(value, PureWindowsPath) else "posix"
    return [_PATH, flavour, _str(str(value), depth)]


# Addresses are packed from their bytes: Python 3.13 changed the text of IPv4-mapped ones.


def _address(value: ip.IPv4Address | ip.IPv6Address, depth: int) -> Any:
    return [_ADDRESS, value.packed, _str(getattr(value, "scope_id", None) or "", depth)]


def _network(value: ip.IPv4Network | ip.IPv6Network, depth: int) -> Any:
    return [_NETWORK, _address(value.network_address, depth), value.prefixlen]


def _interface(value: ip.IPv4Interface | ip.IPv6Interface, depth: int) -> Any:
    return [_INTERFACE, _address(value, depth), value.network.prefixlen]


def _flag(value: Flag, depth: int) -> Any:
    # Only the number: how a combination is named changed in Python 3.11.
    return [_FLAG, *_class(type(value), depth), _form(value.value, depth + 1)]


def _enum(value: Enum, depth: int) -> Any:
    return [_ENUM, *_class(type(value), depth), _str(value.name, depth)]


def _class(cls: type, depth: int) -> list[Any]:
    return [_str(cls.__module__, depth), _str(cls.__qualname__, depth)]


def _field_names(value: Any, cls: Any) -> list[str] | None:
    """Return the names of a record's fields, or None when the value is no record."""
    if hasattr(cls, "__dataclass_fields__"):
        return [field.name for field in dataclasses.fields(value)]
    if issubclass(cls, msgspec.Struct):
        return list(cls.__struct_fields__)
    if hasattr(cls, "__attrs_attrs__"):
        return [attribute.name for attribute in cls.__attrs_attrs__]
    if hasattr(cls, "__pydantic_validator__"):
        # Not model_dump(): it drops the classes of nested models and the excluded fields.
        return [*cls.model_fields, *(value.model_extra or ())]
    return None


def _beside(value: Any, cls: type, names: Sequence[str]) -> dict[str, Any]:
    """Return what a record holds beside its fields: private attributes of a pydantic model, and
    those of a subclass that is no dataclass (or attrs class) itself.
    """
    private: dict[str, Any] = getattr(value, "__pydantic_private__", None) or {}
    own = cls.__dict__.keys() & {"__dataclass_fields__", "__attrs_attrs__"}
    if own or not {"__dataclass_fields__", "__attrs_attrs__"} & set(dir(cls)):
        return private
    found = {name: item for name, item in vars(value).items() if name not in names}
    return {n: i for n, i in found.items() if not isinstance(getattr(cls, n, 0), cached_property)}


def _object(value: object, names: Sequence[str], depth: int) -> Any:
    _check_depth(value, depth)
    forms: dict[Any, Any] = {}
    name = ""
    try:
        for name in names:
            forms[name] = _form(getattr(value, name), depth + 1)
    except _Refused as refused:
        refused.path.append(f".{name}")
        raise
    cls = type(value)
    beside = _beside(value, cls, names)
    if beside:
        return [_OBJECT, *_class(cls, depth), forms, _pairs(value, beside.items(), depth + 1)]
    return [_OBJECT, *_class(cls, depth), forms]


#: Rewrites what is exactly of a type that cannot run anybody's code.
_PLAIN: dict[type, _Handler] = {
    type(None): _itself,
    bool: _itself,
    bytes: _itself,
    int: _int,
    float: _float,
    str: _str,
    complex: _complex,
    list: _sequence,
    tuple: _sequence,
    dict: _dict,
    set: _set,
    frozenset: _set,
    range: _range,
    bytearray: lambda value, depth: bytes(value),
    memoryview: _memory,
    date: lambda value, depth: [_DATE, value.isoformat()],
}

#: What JSON sends as its base type, without asking the object.
_JSON_FAMILIES: tuple[tuple[type, _Handler], ...] = (
    (str, lambda value, depth: _str(str.__str__(value), depth)),
    (int, lambda value, depth: _int(int.__int__(value), depth)),
    (float, lambda value, depth: _float(float.__float__(value), depth)),
    (list, _list_like),
    (tuple, _tuple_like),
    (dict, lambda value, depth: _pairs(value, value.items(), depth)),
)

_FAMILIES: tuple[tuple[Any, _Handler], ...] = (
    (datetime, _datetime),
    (date, lambda value, depth: [_DATE, date.isoformat(value)]),
    (time, _time),
    (timedelta, _timedelta),
    (Decimal, _decimal),
    (UUID, lambda value, depth: [_UUID, value.bytes]),
    (Flag, _flag),
    (Enum, _enum),
    ((set, frozenset), lambda value, depth: _set([*iter(value)], depth)),
    (bytes, lambda value, depth: bytes.__getitem__(value, slice(None))),
    (bytearray, lambda value, depth: bytes(bytearray.__getitem__(value, slice(None)))),
    (complex, _complex),
    (Fraction, _fraction),
    (PurePath, _path),
    ((ip.IPv4Interface, ip.IPv6Interface), _interface),
    ((ip.IPv4Address, ip.IPv6Address), _address),
    ((ip.IPv4Network, ip.IPv6Network), _network),
)
