"""Signatures, decorators and pairs of calls: what differs in a significant argument never shares.

    python -m tests.fuzz.test_whose_arguments 200000 1

draws so many pairs from that seed, and prints how many were shared, and how many not.
"""

from __future__ import annotations

import functools
import random
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from jobtastic_ext.errors import ArgumentUnknown, ConfigurationError
from jobtastic_ext.keys.call_key import call_key
from jobtastic_ext.keys.signature import CallSignature

#: What the innermost function of the last call was given, by its own names.
seen: dict[str, Any] = {}

NAMES = ("a", "b", "c", "d")
VALUES = (0, 1, "x", None, (1,))
SESSION = "session"


def bare(function: Callable[..., Any]) -> Callable[..., Any]:
    """Hides the function, and passes on what it gets."""

    def inner(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return inner


def faithful(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def inner(*args: Any, **kwargs: Any) -> Any:
        str(f"{args} {kwargs}")
        return function(*args, **kwargs)

    return inner


def adding(function: Callable[..., Any]) -> Callable[..., Any]:
    """Passes an argument of its own first."""

    @functools.wraps(function)
    def inner(*args: Any, **kwargs: Any) -> Any:
        return function(SESSION, *args, **kwargs)

    return inner


def dropping(function: Callable[..., Any]) -> Callable[..., Any]:
    """Takes the first argument for itself."""

    @functools.wraps(function)
    def inner(first: Any, *args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return inner


def reversing(function: Callable[..., Any]) -> Callable[..., Any]:
    """Changes the order, of which nothing can be seen but in its source."""

    @functools.wraps(function)
    def inner(*args: Any, **kwargs: Any) -> Any:
        args = args[::-1]
        return function(*args, **kwargs)

    return inner


DECORATORS = (bare, faithful, adding, dropping, reversing)


class Drawn:
    """A task's body: its innermost function behind decorators, a method or a partial."""

    def __init__(self, rng: random.Random) -> None:
        self.kinds: list[str] = []
        run = self.innermost(rng)
        if rng.random() < 0.25:
            run = self.method(run, rng)
        if rng.random() < 0.2:
            run = self.partial(run, rng)
        for _ in range(rng.choice((0, 0, 1, 1, 2))):
            decorator = rng.choice(DECORATORS)
            self.kinds.append(decorator.__name__)
            run = decorator(run)
        if rng.random() < 0.1:
            run = functools.partial(run, rng.choice(VALUES))
        self.run = run

    def innermost(self, rng: random.Random) -> Callable[..., Any]:
        """Make a function of a random signature that notes what it is given."""
        names, parts, optional = [], [], False
        count = rng.randint(0, 3)
        slash = rng.randint(1, count) if count and rng.random() < 0.3 else 0
        for place, name in enumerate(NAMES[:count]):
            optional = optional or rng.random() < 0.3
            parts.append(f"{name}={rng.choice(VALUES)!r}" if optional else name)
            names.append(name)
            if place + 1 == slash:
                parts.append("/")
        rest = rng.random() < 0.25
        only = NAMES[count:][: rng.choice((0, 0, 1))]
        if rest or only:
            parts.append("*rest" if rest else "*")
            names += ["rest"] * rest
        for name in only:
            parts.append(f"{name}={rng.choice(VALUES)!r}" if rng.random() < 0.5 else name)
            names.append(name)
        if rng.random() < 0.35:
            parts.append("**options")
            names.append("options")
        self.names = names
        space: dict[str, Any] = {"seen": seen}
        noted = ", ".join(f"{name}={name}" for name in names)
        source = f"def body({', '.join(parts)}):\n    seen.clear(); seen.update(dict({noted}))\n"
        exec(source, space)
        self.source = parts
        return space["body"]  # type: ignore[no-any-return]

    def method(self, run: Callable[..., Any], rng: random.Random) -> Callable[..., Any]:
        """Make a method of it, decorated or not."""
        inner = run

        def method(self: Any, *args: Any, **kwargs: Any) -> Any:
            return inner(*args, **kwargs)

        functools.update_wrapper(method, inner)
        decorated = faithful_method(method) if rng.random() < 0.5 else method
        self.kinds.append("method")
        return type("Task", (), {"run": decorated})().run  # type: ignore[no-any-return]

    def partial(self, run: Callable[..., Any], rng: random.Random) -> Callable[..., Any]:
        self.kinds.append("partial")
        if rng.random() < 0.5:
            found = functools.partial(run, rng.choice(VALUES))
        else:
            found = functools.partial(run, **{rng.choice(NAMES): rng.choice(VALUES)})
        if rng.random() < 0.5:
            functools.update_wrapper(found, run)
        return found


def faithful_method(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def inner(self: Any, *args: Any, **kwargs: Any) -> Any:
        return function(self, *args, **kwargs)

    return inner


Arguments = tuple[tuple[Any, ...], dict[str, Any]]


def draw_call(rng: random.Random) -> Arguments:
    args = tuple(rng.choice(VALUES) for _ in range(rng.randint(0, 3)))
    names = (*NAMES, "e", "options", "rest")
    return args, {name: rng.choice(VALUES) for name in rng.sample(names, rng.randint(0, 2))}


def respelt(rng: random.Random, call: Arguments) -> Arguments:
    """Return the call with one thing changed, or the same arguments by other names."""
    args, kwargs = list(call[0]), dict(call[1])
    if args and rng.random() < 0.4:
        args[rng.randrange(len(args))] = rng.choice(VALUES)
    elif args and rng.random() < 0.5:
        place = len(args) - 1
        kwargs.setdefault(NAMES[place], args.pop())
    elif kwargs:
        kwargs[rng.choice(list(kwargs))] = rng.choice(VALUES)
    return tuple(args), kwargs


def given(run: Callable[..., Any], call: Arguments) -> dict[str, Any] | None:
    """Return what reaches the innermost function; None if the call does not fit."""
    seen.clear()
    seen["nothing"] = True
    try:
        run(*call[0], **call[1])
    except TypeError:
        return None
    return None if "nothing" in seen else dict(seen)


#: What is no pair of calls.
NEITHER = "no such call"

#: Pairs of calls for each task that is drawn.
PAIRS = 10

Significant = list[tuple[str, None]] | None


def look_at(rng: random.Random) -> Iterator[str]:
    """Draw one task and pairs of calls; yield what became of each, or raise."""
    drawn = Drawn(rng)
    try:
        signature = CallSignature(drawn.run, name="task")
    except ConfigurationError:  # a partial with what its function does not take
        return
    for _ in range(PAIRS):
        names = rng.sample(drawn.names, rng.randint(0, len(drawn.names)))
        significant: Significant = None if rng.random() < 0.3 else [(name, None) for name in names]
        for _ in range(8):
            one = draw_call(rng)
            if given(drawn.run, one) is not None:
                break
        other = respelt(rng, one) if rng.random() < 0.8 else draw_call(rng)
        yield compare(drawn, signature, significant, one, other)


def compare(
    drawn: Drawn, signature: CallSignature, significant: Significant, one: Any, other: Any
) -> str:
    counting = drawn.names if significant is None else [name for name, _ in significant]
    got = [given(drawn.run, call) for call in (one, other)]
    if None in got:
        return NEITHER
    if significant and any(signature.refusal(name) for name in counting):
        return "refused"
    try:
        keys = [call_key("p", "t", signature, significant, *call) for call in (one, other)]
    except ArgumentUnknown:
        return "unshared"
    except TypeError:
        return "unshared: does not fit what the wrapper shows"
    values = [repr([(name, each and each.get(name)) for name in counting]) for each in got]
    if values[0] != values[1]:
        assert keys[0] != keys[1], (drawn.source, drawn.kinds, significant, one, other, got)
        return "differ"
    return "shared" if keys[0] == keys[1] else "alike, but not shared"


def run(pairs: int, seed: int) -> Counter[str]:
    """Look at so many pairs of calls that a task takes, or a few more."""
    rng, found = random.Random(seed), Counter[str]()
    while pairs > found.total() - found[NEITHER]:
        found.update(look_at(rng))
    return found


@pytest.mark.parametrize("seed", [1, 2])
def test_what_differs_never_shares(seed: int) -> None:
    found = run(1000, seed)
    assert found["differ"] > 100
    assert found["shared"] > 100  # it is not that nothing is ever shared


if __name__ == "__main__":
    for word, count in run(int(sys.argv[1]), int(sys.argv[2])).most_common():
        print(f"{count:>9,}  {word}")
