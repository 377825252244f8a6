"""What the policy means for one task: its keys, its times, and whether the two fit together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from math import isinf
from typing import Any, Protocol

from celery.app.task import Task

from ..claims.records import FOREVER, LINGER
from ..errors import PolicyError, Problem
from ..keys.call_key import key_head
from ..keys.signature import CallSignature
from ..keys.vary import Vary
from ..settings import Settings
from .loader import PolicySet
from .model import Plan, Significant, TaskPolicy
from .problems import did_you_mean


class Unshared(Protocol):
    """Why others cannot be given the results of a task."""

    @property
    def reason(self) -> str: ...

    @property
    def readable(self) -> bool:
        """Whether its caller reads them."""


#: Says why a task's results cannot be shared; None if they can.
Unshareable = Callable[[Task], Unshared | None]


#: What a policy may ask of results; runs are shared without them.
NEED_RESULTS = ("cache_duration", "failure_cache_duration")


def make_plan(
    task: Task, policies: PolicySet, settings: Settings, unshareable: Unshareable
) -> Plan | None:
    """Return the plan for a task, or None if no policy is meant for it.

    Raises `PolicyError` if the policy cannot work for this task.
    """
    policy = policy_of(task.name, policies)
    if policy is None:
        return None
    problems = list(problems_of(task, policies, unshareable))
    if problems:
        raise PolicyError(problems)
    herd, lease = milliseconds(policy.herd_avoidance_timeout), milliseconds(settings.lease)
    fresh = milliseconds(policy.cache_duration)
    failure_fresh = milliseconds(policy.failure_cache_duration)
    exclusive = policy.on_duplicate == "serialize"
    debounce, longest = debounces(policy)
    buffers = policy.on_duplicate == "buffer_one" or debounce > 0
    starts = policy.unique_until == "start"
    if (buffers or starts) and herd:
        herd = FOREVER  # who waits does so however long a run takes
    return Plan(
        policy=policy,
        signature=signature_of(task),
        vary=Vary(policy.vary),
        significant=converters(policy.significant_kwargs),
        estimate_by=converters(policy.estimate_by),
        key_prefix=settings.key_prefix,
        cache_prefix=policy.cache_prefix or task.name,
        key_head=key_head(settings.key_prefix, policy.cache_prefix or task.name),
        shares=exclusive
        or bool(herd or fresh or failure_fresh)
        or (policy.on_broker_error != "raise" and not task.ignore_result),
        exclusive=exclusive,
        buffers=buffers,
        starts=starts,
        unique=milliseconds(policy.unique_for),
        debounce=debounce,
        debounce_max=longest,
        newest=policy.arguments == "last",
        blind=not exclusive and unshareable(task) is not None,
        lease=lease,
        herd=herd,
        hold=min(herd, lease),
        fresh=fresh,
        stale=milliseconds(policy.stale_while_revalidate),
        failure_fresh=failure_fresh,
        keep=min(2 * max(herd, lease), LINGER) + longest,
    )


def debounces(policy: TaskPolicy) -> tuple[int, int]:
    """Return for how long it is quiet before a run begins, and the longest that a call waits."""
    quiet = milliseconds(policy.debounce)
    longest = policy.debounce_max
    return quiet, 10 * quiet if longest is None else milliseconds(longest)


def converters(
    arguments: Sequence[Significant] | None,
) -> tuple[tuple[str, Callable[[Any], Any] | None], ...] | None:
    return None if arguments is None else tuple((item.name, item.convert) for item in arguments)


def problems_of(task: Task, policies: PolicySet, unshareable: Unshareable) -> Iterable[Problem]:
    """Yield what makes the policy impossible for this task."""
    policy = policy_of(task.name, policies)
    if policy is None:
        return
    signature = signature_of(task)
    for field in ("significant_kwargs", "estimate_by"):
        for index, item in enumerate(getattr(policy, field) or ()):
            refusal = signature.refusal(item.name)
            if refusal:
                near = did_you_mean(item.name, signature.names)
                yield policies.problem(policy.pattern, field, refusal + near, index=index)
    kept = [field for field in NEED_RESULTS if getattr(policy, field) is not None]
    joins = policy.herd_avoidance_timeout and policy.on_duplicate != "serialize"
    unshared = unshareable(task) if kept or joins else None
    if unshared is None:
        return
    if unshared.readable:
        yield policies.problem(
            policy.pattern, None, f"{task.name} cannot share its results: {unshared.reason}"
        )
        return
    for field in kept:
        yield policies.problem(
            policy.pattern, field, f"{task.name} has no result to keep: {unshared.reason}"
        )


def policy_of(name: str, policies: PolicySet) -> TaskPolicy | None:
    """Return the task's policy; Celery's own tasks only have one that names them exactly."""
    policy = policies.for_task(name)
    if policy is not None and name.startswith("celery.") and policy.pattern != name:
        return None
    return policy


def signature_of(task: Task) -> CallSignature:
    """Return the task's own arguments; a run wrapped by Celery or by us shows the original's."""
    call = type(task).__call__
    return CallSignature(task.run, name=task.name, call=None if call is Task.__call__ else call)


def milliseconds(seconds: float | None) -> int:
    """Convert a duration; None, which means never, becomes 0."""
    if seconds is None:
        return 0
    return FOREVER if isinf(seconds) else round(seconds * 1000)
