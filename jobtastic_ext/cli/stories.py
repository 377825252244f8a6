"""Tells in words what is held for a call."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import click
from msgspec import to_builtins

from ..claims.holders import shown
from ..claims.records import Claim
from ..errors import StoreError
from ..operations.held import Held, ended
from ..policy import differences
from ..runtime import Runtime
from .lengths import lasting
from .project import plans_of


def explain_held(runtime: Runtime, key: str | None, task_id: str, as_json: bool) -> None:
    """Print what is held under a key, or for the task of an id."""
    try:
        keys = [key] if key else [one.key for one in runtime.desk.named(task_id)]
        found = [(each, *runtime.desk.claim(each)) for each in keys]
    except StoreError as error:
        raise click.ClickException(str(error)) from error
    known = [each for each in found if each[1] is not None]
    if not known:
        raise click.ClickException(
            f"nothing is held under {key}" if key else f"no call is held for task {task_id}"
        )
    if as_json:
        click.echo(
            json.dumps([{"key": each, **as_data(claim)} for each, claim, _ in known], indent=2)
        )
        return
    for each, claim, held in known:
        click.echo("\n".join(story(runtime, each, claim, held)))


def as_data(claim: Claim | None) -> dict[str, Any]:
    """Return what the store holds as it is: times are milliseconds, on the store's clock."""
    claim = claim or Claim()
    told = {"holder": to_builtins(shown(claim.holder)), "value": to_builtins(claim.value)}
    more = {"started": to_builtins(claim.started), "beside": to_builtins(claim.beside)}
    return {**told, **{name: part for name, part in more.items() if part}}


def story(runtime: Runtime, key: str, claim: Claim | None, held: Held | None) -> Iterator[str]:
    yield f"key: {key}"
    if held is not None:
        plans = plans_of(runtime)
        yield f"task: {held.task}"
        for name in held.task.split(","):
            if name in plans:
                yield f"rule: {differences.rule(runtime.policies, name, plans[name])}"
    yield from told_of(runtime, key, claim, held)


def told_of(runtime: Runtime, key: str, claim: Claim | None, held: Held | None) -> Iterator[str]:
    """Yield what is under way for a call, and which result is shared."""
    if held is None:
        yield "nobody runs it, and no result is shared: the next call runs"
        return
    yield from told(held)
    if claim is None or held.state == "done" or claim.value is None:
        return
    last = ended(key, held.task, claim, runtime.store.look(key)[1])
    if last is not None and (last.deadline is None or last.deadline > 0):
        yield from told(last)


def told(held: Held) -> Iterator[str]:
    """Yield what has happened, and what comes next."""
    age, left = lasting(held.age), held.deadline
    ago = lasting(-left) if left is not None and left <= 0 else ""
    ahead = "for ever" if left is None else f"for {lasting(left)}"
    if held.state == "done":
        yield f"task {held.id} ended {age} ago"
        if ago:
            yield "its result is shared no more: the next identical call runs"
        else:
            yield f"identical calls are given its result {ahead}"
        return
    if held.state == "running":
        where = f" in worker {held.worker}" if held.worker else ""
        yield f"task {held.id} has been running for {age}{where}"
        if ago:
            yield f"its lease was over {ago} ago: the worker has died, or does not reach the store"
        else:
            yield f"its worker is alive: the lease is renewed, and good {ahead}"
    else:
        yield f"task {held.id} has been queued for {age}"
        if ago:
            yield f"no worker has begun it: its message has counted as lost for {ago}"
        else:
            yield f"its message is believed to be on its way {ahead}"
    if ago:
        yield "the next identical call sends it again, under the same id"
    if held.waiting:
        yield f"waiting for it: {held.waiting}"
    yield "to let go of it, so that the next identical call runs:"
    yield f"  celery -A … jobtastic forget --key {held.key}"
