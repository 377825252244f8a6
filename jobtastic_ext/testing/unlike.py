"""Why two calls are not one, in words."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from celery.app.task import Task

from ..caller.options import plain_arguments
from ..celery_internals import custom_headers
from ..errors import ArgumentNotEncodable, ArgumentUnknown
from ..policy import differences
from ..runtime import Runtime

__all__ = ("Seen", "why_not_one")


class Seen(NamedTuple):
    """A call as it was made."""

    task: Task
    args: Any
    kwargs: Any
    options: dict[str, Any]
    #: `result.decision`.
    decision: str


def why_not_one(runtime: Runtime, first: Seen, other: Seen) -> str:
    """Say what differs in what counts, or that nothing does."""
    for call in (first, other):
        if runtime.plan(call.task) is None:
            near = ", ".join(runtime.policies.patterns) or "nothing"
            return f"{call.task.name} has no policy; there is one for {near}"
    try:
        here, there = (list(counting(runtime, call)) for call in (first, other))
    except (ArgumentNotEncodable, ArgumentUnknown, TypeError) as error:
        return f"one is not shared: {error}"
    ours = [part for part in here if part not in there]
    theirs = [part for part in there if part not in here]
    if ours or theirs:
        return f"{' and '.join(ours) or 'nothing'}, but {' and '.join(theirs) or 'nothing'}"
    return (
        f"they agree in {' and '.join(here) or 'all that counts'}, and were decided apart: "
        f"{first.decision}, {other.decision}"
    )


def counting(runtime: Runtime, call: Seen) -> Iterator[str]:
    """Name what the key of a call is made of."""
    plan = runtime.plan(call.task)
    if plan is None:
        return
    args, kwargs = plain_arguments(call.task, call.args or (), call.kwargs or {}, call.options)
    headers = dict(call.options.get("headers") or {})
    place = runtime.routes.named(call.task, args, kwargs, call.options)
    if plan.policy.cache_prefix is None:
        yield f"task = {call.task.name}"
    yield from differences.parts(plan, args, kwargs, custom_headers(headers), place)
