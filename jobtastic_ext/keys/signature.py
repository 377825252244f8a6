"""What a task takes, and the arguments of a call by the names that are certain."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import FunctionType, MethodType
from typing import Any

from ..errors import ArgumentNotEncodable, ArgumentUnknown, ConfigurationError
from .encoding import canonical
from .wrappers import is_open, is_plain_call, unwrapped

_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)

#: Stands for an argument that a call leaves to a default that has no encoding (``MISSING``, a lazy
#: text): it never travels, so all that matters is that it was not given.
UNSAID: Any = object()


class CallSignature:
    """What a task's ``run`` takes: turns the arguments of a call into names and values.

    Built once per task from ``task.run`` (bound, or without ``self``).  A wrapper made with
    `functools.wraps` is looked through where it certainly passes on what it gets; else names are
    those of the wrapper itself (`wrapper` tells which).  ``name`` is what errors call the task;
    ``call`` is a ``__call__`` of the task's own, through which every run goes.  Raises
    `ConfigurationError` for a callable whose signature cannot be read.
    """

    __slots__ = (
        "_beyond",
        "_by_keyword",
        "_keywords",
        "_open",
        "_positional",
        "_required",
        "_rest",
        "_signature",
        "_template",
        "name",
        "names",
        "wrapper",
    )

    def __init__(
        self,
        run: Callable[..., Any],
        name: str | None = None,
        call: Callable[..., Any] | None = None,
    ) -> None:
        self.name = name or str(getattr(run, "__qualname__", type(run).__qualname__))
        #: The wrapper that may pass arguments of its own to the function behind it, or None.
        self.wrapper: str | None = None
        try:
            self._signature, wrapper = real_signature(run)
        except ValueError as error:
            raise ConfigurationError(
                f"the signature of {self.name} cannot be read, so its calls cannot be told apart; "
                "wrap it in a Python function"
            ) from error
        if call is not None and not is_plain_call(call):
            self._signature, wrapper = inspect.signature(_anything), call
        #: Names that no call can make known, for a keyword of that name goes elsewhere.
        self._beyond: frozenset[str] = frozenset()
        self._open = is_open(self._signature)
        if wrapper is not None:
            self._look_behind(run if wrapper is call else wrapper)
            self.wrapper = str(getattr(wrapper, "__qualname__", type(wrapper).__qualname__))
            code = getattr(wrapper, "__code__", None) if type(wrapper) is FunctionType else None
            if code is not None:  # its name is that of what it wraps
                self.wrapper = getattr(code, "co_qualname", code.co_name)
        self._read()

    def _look_behind(self, wrapper: Any) -> None:
        """Note what the functions behind a wrapper take otherwise than by keyword."""
        kinds = (*_VARIADIC, inspect.Parameter.POSITIONAL_ONLY)
        beyond: set[str] = set()
        behind = self._signature
        for layer in layers(wrapper):
            try:
                behind = inspect.signature(layer, follow_wrapped=False)
            except ValueError:  # a partial with what its function does not take
                continue
            beyond.update(p.name for p in behind.parameters.values() if p.kind in kinds)
        self._open = is_open(behind)
        self._beyond = frozenset(beyond - self._signature.parameters.keys())

    def _read(self) -> None:
        parameters = self._signature.parameters.values()
        #: Names of the parameters ``*name`` and ``**name``, or None.
        self._rest = next((p.name for p in parameters if p.kind is p.VAR_POSITIONAL), None)
        self._keywords = next((p.name for p in parameters if p.kind is p.VAR_KEYWORD), None)
        #: Names of the arguments in the order of the signature, without that of ``**kwargs``.
        self.names = tuple(p.name for p in parameters if p.kind is not p.VAR_KEYWORD)
        self._by_keyword = frozenset(
            p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
        )
        #: Of an ordinary signature, the names that a position can fill; else None.
        self._positional: tuple[str, ...] | None = None
        if not any(p.kind is p.POSITIONAL_ONLY or p.kind in _VARIADIC for p in parameters):
            self._positional = tuple(
                p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD
            )
        self._required = frozenset(p.name for p in parameters if p.default is p.empty)
        self._template = {p.name: encodable(p.default) for p in parameters}

    def refusal(self, name: str) -> str | None:
        """Say why the argument can be known in no call; None if it can be in some."""
        if name in self._beyond:
            return (
                f"{self.name} is called through `{self.wrapper}`, which may pass arguments of its "
                f"own, so `{name}` is not known; let it pass on what it gets, give it a "
                "`__signature__`, or leave significant_kwargs out: then everything counts"
            )
        if name in self.names or name == self._keywords:
            return None
        takes = ", ".join(f"`{each}`" for each in self.names) or "none"
        if self._keywords is None:
            return f"{self.name} takes no argument `{name}`; it takes {takes}"
        if self._open:
            return (
                f"{self.name} takes `*{self._rest}, **{self._keywords}`, so `{name}` is not known "
                "by name; let the decorator use functools.wraps and pass on what it gets, or give "
                "it parameters or a `__signature__`, or leave significant_kwargs out: then "
                "everything counts"
            )
        return None

    def uncertain(self, names: Sequence[str]) -> tuple[str, ...]:
        """Return those of the names that only a call's keywords can make known."""
        return tuple(n for n in names if n not in self.names and n != self._keywords)

    def unknown(self, name: str) -> ArgumentUnknown:
        """Return the error of a call that does not pass this argument by keyword."""
        through = f" (its decorator `{self.wrapper}` may pass others)" if self.wrapper else ""
        return ArgumentUnknown(
            f"{self.name}: this call does not pass `{name}` by keyword, and no parameter is called "
            f"so{through}; pass it by keyword, or name what the task takes in significant_kwargs"
        )

    def bind(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """Return every argument of a call by name, defaults applied, in a fixed order.

        However a call is spelt, the result is the same.  ``*args`` is a tuple under its name.
        What ``**kwargs`` collects follows by its own names, sorted; where such a name is also
        that of a parameter (positional-only, or ``*args``), it is written ``**name``.
        A default without an encoding is `UNSAID`.  Raises `TypeError` when the arguments do not
        fit.
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

    def named(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """Do what `bind` does, with the mapping that ``**kwargs`` collects under its own name."""
        bound = self.bind(args, kwargs)
        if self._keywords is not None:
            extra = {name: kwargs[name] for name in kwargs if name not in self._by_keyword}
            bound[self._keywords] = extra
        return bound

    def _bind_any(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        try:
            given = self._signature.bind(*args, **kwargs).arguments
        except TypeError as error:
            raise TypeError(f"{self.name}: {error}") from None
        bound = {name: given.get(name, default) for name, default in self._template.items()}
        if self._rest is not None:
            bound[self._rest] = given.get(self._rest, ())
        if self._keywords is not None:
            bound.pop(self._keywords)
            extra = given.get(self._keywords, {})
            bound.update((self._name_of(name), extra[name]) for name in sorted(extra))
        return bound

    def _name_of(self, name: str) -> str:
        return f"**{name}" if name in self.names or name.startswith("**") else name


def _anything(*args: Any, **kwargs: Any) -> None:
    """Take anything, as a `__call__` does of which no more is known."""


def layers(function: Any) -> Iterator[Callable[..., Any]]:
    """Yield a wrapper, and one after the other what is behind it."""
    while function is not None:
        yield function
        under = getattr(function, "func", None) if type(function) is functools.partial else None
        function = under or getattr(function, "__wrapped__", None)


def encodable(default: Any) -> Any:
    """Return a default, or `UNSAID` if it has no encoding."""
    if default is inspect.Parameter.empty:
        return default
    try:
        canonical(default)
    except ArgumentNotEncodable:
        return UNSAID
    return default


def real_signature(
    run: Callable[..., Any],
) -> tuple[inspect.Signature, Callable[..., Any] | None]:
    """Return what a callable really takes, and the wrapper that hides what is behind it, if any.

    `inspect.signature` believes every ``__wrapped__``; here only one is believed that passes on
    what it gets.
    """
    bound = 0
    while True:
        if type(run) is MethodType:
            run, bound = run.__func__, bound + 1
        inner = unwrapped(run)
        if inner is None:
            break
        run = inner
    if getattr(run, "__wrapped__", None) is None or type(run) in (FunctionType, functools.partial):
        signature = inspect.signature(run, follow_wrapped=False)
    elif "__signature__" in getattr(run, "__dict__", {}):
        signature = inspect.signature(run)
    else:
        signature = inspect.signature(_anything)  # an object that passes for what it wraps
    parameters = list(signature.parameters.values())
    while bound and parameters and parameters[0].kind not in _VARIADIC:
        parameters, bound = parameters[1:], bound - 1
    signature = signature.replace(parameters=parameters)
    hidden = getattr(run, "__wrapped__", None) is not None and any(
        parameter.kind in _VARIADIC for parameter in parameters
    )
    return signature, run if hidden else None
