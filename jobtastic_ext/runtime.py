"""One runtime per app: its settings, policies, store and plans, built on first use."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator
from functools import cached_property
from typing import Any, Protocol

from celery import Celery
from celery.app.task import Task
from kombu.utils import symbol_by_name

from . import signals
from .breaker import GuardedStore
from .errors import Problem, StoreError
from .features.memleak import MemoryWatch
from .plans import Plan, make_plan, policy_of, problems_of
from .policy import PolicySet, TaskPolicy, load_policy
from .policy_nodes import did_you_mean
from .results import ResultBackend
from .settings import read_settings
from .stores import open_store

__all__ = ("ATTRIBUTE", "Runtime", "close_runtime", "publish", "runtime_of")

logger = logging.getLogger("jobtastic_ext")

#: The attribute of an app that holds its runtime.
ATTRIBUTE = "_jobtastic_runtime"

#: Celery's own `apply_async`, taken before it is patched.
publish = Task.apply_async

_building = threading.RLock()


class Stops(Protocol):
    """A helper that works in the background until it is told to stop."""

    def stop(self) -> None: ...


class Runtime:
    """What jobtastic_ext knows and holds for one app."""

    #: The `Keeper` of a worker's leases.
    keeper: Stops | None = None
    publish = staticmethod(publish)

    def __init__(self, app: Celery) -> None:
        self.app = app
        self.settings = read_settings(app.conf)
        self.policies = load_policy(self.settings.policy, further=self._problems)
        self.results = ResultBackend(app)
        store = open_store(
            self.settings.store,
            timeout=self.settings.store_timeout,
            **self.settings.store_options,
        )
        self.store = GuardedStore(store, "the store of claims", self._store_failed)
        self.wrapped: dict[str, Any] = {}
        #: Of a worker whose policy asks for it.
        self.memory: MemoryWatch | None = None
        self._plans: dict[str, Plan | None] = {}

    def plan(self, task: Task) -> Plan | None:
        """Return what the policy means for this task, or None.  Raises `PolicyError`."""
        try:
            return self._plans[task.name]
        except KeyError:
            plan = self._plans[task.name] = make_plan(task, self.policies, self.settings)
            return plan

    @property
    def results_share_store(self) -> bool:
        """Whether the result backend is the server that the store is on."""
        return bool(self.app.conf.result_backend == self.settings.store)

    @cached_property
    def broker(self) -> str:
        """What kind of broker it is: ``redis``, ``amqp`` and so on."""
        return str(self.app.connection_for_write().transport.driver_type)

    def warnings(self) -> list[str]:
        """Return what is no mistake but will surprise, each with its place in the policy."""
        used: dict[str, TaskPolicy] = {}
        for name in self.app._tasks:
            policy = policy_of(name, self.policies)
            if policy is not None:
                used[policy.pattern] = policy
        said: list[tuple[str, str | None, str]] = [
            (pattern, None, f"no task of this app fits `{pattern}`" + self._nearest(pattern))
            for pattern in self.policies.patterns
            if pattern not in used
        ]
        for pattern, policy in used.items():
            for field in idle_fields(policy):
                said.append((pattern, field, f"`{field}` has no effect in this version"))
        return [str(self.policies.problem(*words)) for words in said]

    def _nearest(self, pattern: str) -> str:
        return did_you_mean(pattern, self.app._tasks)

    def _problems(self, policies: PolicySet) -> Iterator[Problem]:
        # Pending tasks are checked when they are first called: no app is finalized from here.
        for task in self.app._tasks.values():
            yield from problems_of(task, policies)

    def _store_failed(self, key: str, error: StoreError) -> None:
        signals.store_failed.send(sender=self.app, key=key, exception=error)


def idle_fields(policy: TaskPolicy) -> list[str]:
    """Return the fields that are set, but that nothing acts upon yet."""
    idle = []
    if policy.on_broker_error != "raise":
        idle.append("on_broker_error")
    return idle


def runtime_of(app: Celery) -> Runtime | None:
    """Return the app's runtime, built now if need be; None for an app without the step.

    Raises `ConfigurationError` (of which `PolicyError` is one) while the settings are wrong.
    """
    runtime: Runtime | None = getattr(app, ATTRIBUTE, None)
    if runtime is not None:
        return runtime
    steps = app.steps["worker"]
    if not steps or not any(map(enables, steps)) or app.conf.task_always_eager:
        return None
    with _building:
        runtime = getattr(app, ATTRIBUTE, None)
        if runtime is None:
            runtime = Runtime(app)
            setattr(app, ATTRIBUTE, runtime)
            logger.debug("jobtastic_ext enabled in process %d", os.getpid())
        return runtime


def enables(step: Any) -> bool:
    """Whether a bootstep, given as a class or by its name, is ours."""
    found: Any = symbol_by_name(step)  # type: ignore[no-untyped-call]
    return bool(getattr(found, "enables_jobtastic", False))


def close_runtime(app: Celery) -> None:
    """Let go of the app's runtime; the next call builds it anew."""
    runtime: Runtime | None = getattr(app, ATTRIBUTE, None)
    if runtime is None:
        return
    delattr(app, ATTRIBUTE)
    if runtime.keeper is not None:
        runtime.keeper.stop()
    if runtime.memory is not None:
        runtime.memory.close()
    runtime.results.restore()
    runtime.store.close()
