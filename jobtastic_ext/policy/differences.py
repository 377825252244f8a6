"""In words: what tells the calls of a task apart, and which rule of the policy says so."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..keys.signature import UNSAID
from ..keys.vary import HEADERS, NAMED, QUEUE
from .loader import PolicySet
from .model import Plan

LONGEST = 200


def told_apart(plan: Plan) -> str:
    """Say what the calls of a task are told apart by."""
    significant = plan.policy.significant_kwargs
    words = (
        ["every argument"] if significant is None else [f"`{item.name}`" for item in significant]
    )
    for field in plan.policy.vary:
        if field == HEADERS:
            words.append("the headers of the call")
        elif field == QUEUE:
            words.append("a queue named in the call")
        elif field.startswith(NAMED):
            words.append(f"the header `{field.removeprefix(NAMED)}`")
    if not words:
        return "nothing: all calls are one"
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last


def warnings(name: str, plans: Mapping[str, Plan]) -> Iterator[str]:
    """Say what keeps calls from being shared, or shares more than one may think.

    `plans` holds those of all tasks, by their names.
    """
    plan = plans[name]
    signature = plan.signature
    if signature.wrapper is not None:
        names = [item.name for item in plan.policy.significant_kwargs or ()]
        loose = ", ".join(f"`{each}`" for each in signature.uncertain(names))
        then = (
            f"a call is shared only if it passes {loose} by keyword"
            if loose
            else "positional and keyword calls are different calls"
        )
        yield f"its decorator `{signature.wrapper}` may pass arguments of its own, so {then}"
    others = [
        each for each, other in plans.items() if each != name and other.key_head == plan.key_head
    ]
    if others:
        yield f"it shares results with {', '.join(others)} (cache_prefix `{plan.cache_prefix}`)"


def rule(policies: PolicySet, name: str, plan: Plan) -> str:
    """Say which entry of the policy holds for a task, and where it stands."""
    pattern = plan.policy.pattern
    kind = "its own name" if pattern == name else f"the glob `{pattern}`"
    place = policies.patterns[pattern]
    where = f"{policies.source}:{place.line}" if place.line else f"{policies.source}, {place}"
    return f"{kind} ({where})"


def parts(
    plan: Plan,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    headers: Mapping[str, Any],
    place: Sequence[str],
) -> Iterator[str]:
    """Name each part of a call's key, and its value."""
    significant = plan.policy.significant_kwargs
    if significant is None:
        for name, value in plan.signature.bind(args, kwargs).items():
            yield f"{name} = {shown(value)}"
    else:
        bound = plan.signature.named(args, kwargs)
        for item in significant:
            value = bound[item.name]
            if item.convert is None or value is UNSAID:
                yield f"{item.name} = {shown(value)}"
            else:
                made = shown(item.convert(value))
                yield f"{item.name} = {made}, which {item.converter} makes of {shown(value)}"
    if plan.vary.headers:
        for name, value in sorted(plan.vary.counting(headers).items()):
            yield f"header {name} = {shown(value)}"
    if plan.vary.queue and place:
        yield f"queue = {' '.join(filter(None, place))}"


def shown(value: Any) -> str:
    if value is UNSAID:
        return "its default, which has no encoding"
    text = repr(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"
