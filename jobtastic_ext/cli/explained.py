"""One call of a task, explained: the policy, the key in words, and what is held under it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import click
from msgspec import Struct

from ..celery_internals import custom_headers
from ..claims.records import Claim
from ..errors import ArgumentUnknown, StoreError
from ..operations.held import Held
from ..policy import differences, written
from ..policy.model import Plan
from ..runtime import Runtime
from .project import given, plan_of, plans_of
from .stories import as_data, told_of


class Explained(Struct, frozen=True, kw_only=True):
    """What holds for a task, and what is known of one call."""

    runtime: Runtime
    task: str
    plan: Plan
    #: Empty if the call has none.
    key: str = ""
    #: Why it has none.
    unshared: str = ""
    parts: Sequence[str] = ()
    claim: Claim | None = None
    held: Held | None = None

    def told(self) -> Iterator[str]:
        policies = self.runtime.policies
        yield f"rule: {differences.rule(policies, self.task, self.plan)}"
        yield from written.in_force(policies, self.plan.policy)
        yield f"told apart by: {differences.told_apart(self.plan)}"
        for warning in self.warnings():
            yield f"warning: {warning}"
        if not self.key:
            yield f"key: {self.unshared}"
            return
        yield f"key: {self.key}"
        for part in self.parts:
            yield f"  {part}"
        yield from told_of(self.runtime, self.key, self.claim, self.held)

    def as_data(self) -> dict[str, Any]:
        policies, policy = self.runtime.policies, self.plan.policy
        return {
            "task": self.task,
            "source": policies.source,
            "pattern": policy.pattern,
            "line": policies.patterns[policy.pattern].line,
            "policy": written.as_data(policies, policy),
            "told_apart": differences.told_apart(self.plan),
            "warnings": list(self.warnings()),
            "key": self.key or None,
            "parts": list(self.parts),
            **as_data(self.claim),
        }

    def warnings(self) -> Iterator[str]:
        return differences.warnings(self.task, plans_of(self.runtime))


def explained(
    runtime: Runtime,
    task: str,
    *,
    arguments: str | None,
    kwargs: str | None,
    headers: str | None,
    queue: str | None,
) -> Explained:
    """Explain the call that these options make, each of them JSON."""
    plan = plan_of(runtime, task)
    try:
        call = given(arguments, "--args", list), given(kwargs, "--kwargs", dict)
        sent = custom_headers(given(headers, "--headers", dict))
        place = runtime.routes.named(runtime.app.tasks[task], *call, {"queue": queue})
        key = plan.key(*call, plan.vary.of(sent, place))
        words = list(differences.parts(plan, *call, sent, place))
        claim, held = runtime.desk.claim(key)
    except ArgumentUnknown as error:
        return Explained(
            runtime=runtime, task=task, plan=plan, unshared=f"none, it is not shared: {error}"
        )
    except (TypeError, ValueError, StoreError) as error:
        if arguments is not None or kwargs is not None or isinstance(error, StoreError):
            raise click.ClickException(str(error)) from error
        some = ", ".join(f'"{name}": …' for name in plan.signature.names)
        why = f"depends on the arguments; give some, as --kwargs '{{{some}}}'"
        return Explained(runtime=runtime, task=task, plan=plan, unshared=why)
    return Explained(
        runtime=runtime, task=task, plan=plan, key=key, parts=words, claim=claim, held=held
    )
