"""One runtime per app: its settings, policies, store and plans, built on first use."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from celery import Celery
from celery.app.task import Task
from kombu.utils import symbol_by_name

from . import signals
from .broker.lines import Lines
from .broker.publisher import Broker
from .broker.queue_position import QueuePositions
from .broker.routing import Routes
from .caller.sending import Caller
from .counts.table import SharedCounts
from .counts.tally import Tally
from .errors import JobtasticError, PolicyError, Problem, StoreError, StoreUnavailable
from .hooks import RunHooks, around_body
from .keys.call_key import keys_head
from .policy.loader import PolicySet, load_policy, no_policy
from .policy.model import Plan
from .policy.planner import make_plan, policy_of, problems_of
from .policy.problems import did_you_mean
from .progress.histories import Histories
from .progress.reporter import Reporter
from .progress.retries import Retries
from .progress.ticker import Ticker
from .progress.workflow import typical_lengths
from .resilience.circuit_breaker import CircuitBreaker
from .resilience.outbox import Outbox
from .resilience.per_process import per_process
from .results.backend import Backend
from .results.kinds import backend_class, is_plain_redis, unshareable
from .results.result_objects import enrich
from .results.state_writer import MEANING, NAME, BackendWriter, Writer
from .results.subscriptions import Subscriptions
from .settings import Settings, misspelt, read_settings, shown, switched_off
from .stores import open_store
from .stores.guarded import GuardedStore
from .telling import tell
from .worker.counted_runs import CountedRuns
from .worker.delivery import Deliveries
from .worker.lease_keeper import LeaseKeeper
from .worker.postrun import Postrun

if TYPE_CHECKING:
    from .broker.redis_queues import RedisQueues
    from .memory.watch import MemoryWatch
    from .operations.desk import Desk

logger = logging.getLogger("jobtastic_ext")

#: The attribute of an app that holds its runtime.
ATTRIBUTE = "_jobtastic_runtime"

#: Celery's own `apply_async`, taken before it is patched.
publish = Task.apply_async

#: Where servers that are not Redis listen when the URL does not say.
PORTS = {"amqp": 5672, "pyamqp": 5672, "amqps": 5671, "memcached": 11211}

_building = threading.RLock()


class Runtime:
    """What jobtastic_ext knows and holds for one app."""

    def __init__(self, app: Celery) -> None:
        self.app = app
        enrich(app, forgotten)
        self.settings = read_settings(app.conf, app.main)
        #: Why there is no policy at all, if nobody has named one.
        self.no_policy = missing(self.settings)
        if self.no_policy:
            self.policies = no_policy(str(self.settings.policy))
        else:
            self.policies = load_policy(self.settings.policy, further=partial(unfit, app))
        settings = self.settings
        self.results = Backend(app, min(settings.store_timeout, settings.publish_timeout / 2))
        #: The same for what is only shown: its trouble is no trouble of calls.
        self.progress = Backend(
            app, settings.store_timeout, name=NAME, consequence=MEANING, pooled=True
        )
        self.subscriptions = Subscriptions(app)
        #: What the store leaves of a call's deadline, but some of it in any case.
        left = settings.publish_timeout - settings.store_timeout
        self.broker = Broker(app, max(left, settings.publish_timeout / 4), settings.publish_timeout)
        #: The store without its circuit breaker.
        self.direct_store = store = open_store(
            settings.store,
            timeout=settings.store_timeout,
            results=self.results.place,
            **settings.store_options,
        )
        self.store = GuardedStore(store, "the store of claims", self._store_failed)
        self.tally = Tally(store, self.settings.key_prefix, settings.store_timeout)
        self.owed_to_store = per_process(Outbox)
        self.owed_to_results = per_process(Outbox)
        self.histories = Histories(self.store, self.settings.key_prefix)
        self.retries = retries = Retries(self.store, self.settings.key_prefix)
        self.ticker = per_process(Ticker)
        #: Of a worker whose policy asks for it.
        self.memory: MemoryWatch | None = None
        self._plans: dict[str, Plan | None] = {}
        self._warned: set[str] = set()
        self.routes = Routes(app)
        self.lines = Lines(self.broker, app.conf.get("task_default_queue_type") or "classic")
        self.reporter = Reporter(self.plan, self.histories, retries, self._open_writer, self.ticker)
        self.caller = self._new_caller()
        self.deliveries = self._new_deliveries()
        #: What is told of each run, in this order.
        self.hooks: tuple[RunHooks, ...] = (
            Postrun(self.deliveries),
            self.reporter,
            CountedRuns(self.plan, self.tally),
        )

    def _new_caller(self) -> Caller:
        return Caller(
            app=self.app,
            settings=self.settings,
            plan=self._plan_of_call if self.no_policy else self.plan,
            routes=self.routes,
            tell_once=self.tell_once,
            store=self.store,
            direct_store=self.direct_store,
            results=self.results,
            subscriptions=self.subscriptions,
            broker=self.broker,
            lines=self.lines,
            broker_shares_store=self._broker_shares_store(),
            tally=self.tally,
            owed_to_store=self.owed_to_store,
            owed_to_results=self.owed_to_results,
        )

    def _new_deliveries(self) -> Deliveries:
        return Deliveries(
            app=self.app,
            plan=self.plan,
            keys_head=keys_head(self.settings.key_prefix),
            routes=self.routes,
            tell_once=self.tell_once,
            store=self.store,
            results=self.results,
            lines=self.lines,
            publish=publish,
            tally=self.tally,
            around_body=lambda entered: around_body(self.hooks, entered),
        )

    def plan(self, task: Task) -> Plan | None:
        """Return what the policy means for this task, or None.  Raises `PolicyError`."""
        try:
            return self._plans[task.name]
        except KeyError:
            plan = self._plans[task.name] = make_plan(
                task, self.policies, self.settings, unshareable
            )
            return plan

    @cached_property
    def keeper(self) -> LeaseKeeper:
        """What keeps the leases of a worker."""
        return LeaseKeeper(
            self.plan, self.store, self.lines, self.routes, self.settings.lease, self.tally
        )

    def stop_keeper(self) -> None:
        """Stop it; the next request that is received makes another one."""
        keeper: LeaseKeeper | None = self.__dict__.pop("keeper", None)
        if keeper is not None:
            keeper.stop()

    def watch_memory(self, worker: Any) -> bool:
        """Watch memory in this worker if a policy asks for it; return whether one does."""
        # Here, so that a process that only calls tasks does not load psutil.
        from .memory.worker_watch import MemoryRuns, start_watch

        names = ((name, policy_of(name, self.policies)) for name in self.app._tasks)
        found = {name: policy for name, policy in names if policy is not None}
        self.memory = start_watch(found, worker, lambda name: self.tally.count(name, "leaks"))
        if self.memory is None:
            return False
        self.hooks += (MemoryRuns(self.memory),)
        return True

    def share_counts(self, worker: Any) -> None:
        """Have the children of this worker, if it will fork any, count in memory of its own."""
        from .memory.recycle import place_in_pool
        from .memory.worker_watch import ROWS, has_process_of_its_own

        pool = getattr(worker, "pool_cls", None)
        if pool is not None and has_process_of_its_own(pool):
            rows = max(ROWS, 2 * int(worker.concurrency or 0))
            self.tally.share(SharedCounts(list(self.plans()), rows, place_in_pool))

    def tell_once(self, about: str, message: str, *values: object) -> None:
        """Warn once in this process."""
        if about not in self._warned:
            self._warned.add(about)
            logger.warning(message, *values)

    def _broker_shares_store(self) -> bool:
        """Whether the broker is the server that the store is on."""
        urls = self.app.conf.broker_write_url or self.app.conf.broker_url or ""
        first = urls if isinstance(urls, str) else next(iter(urls), "")
        return server_of(first) == server_of(self.settings.store)

    def _open_writer(self) -> Writer:
        """Return what writes progress to the app's result backend."""
        through_celery = BackendWriter(self.progress)
        if self.settings.results is None or not is_plain_redis(backend_class(self.app)):
            return through_celery
        from .results.redis_state_writer import RedisWriter  # the driver, only where Redis is used

        return RedisWriter(self.settings, through_celery)

    @cached_property
    def desk(self) -> Desk:
        """What answers an operator."""
        from .operations.desk import Desk  # calls and workers do without

        return Desk(
            self.store,
            self.settings.key_prefix,
            self.plans,
            partial(typical_lengths, self.histories),
            self.tally,
            self.lines,
        )

    @cached_property
    def queues(self) -> RedisQueues | None:
        """The broker, if its queues can be looked at."""
        settings = self.settings
        if settings.queues is None:
            return None
        from .broker.redis_queues import RedisQueues  # the driver, only where Redis is used

        return RedisQueues(
            settings.queues, timeout=settings.store_timeout, **settings.queues_options
        )

    @cached_property
    def positions(self) -> QueuePositions | None:
        """Tells a task's place in its queue, if the broker lets that be known cheaply."""
        if self.queues is None:
            return None
        # It guards nothing else: a page's wait is no outage.
        breaker = CircuitBreaker(
            "the broker, asked for places in its queues,",
            self.queues.ping,
            refusal=StoreUnavailable,
            consequence="pages do not show them meanwhile",
        )
        return QueuePositions(self.app, self.queues, breaker)

    def plans(self) -> dict[str, Plan]:
        """Return the plans of the app's tasks that the policy is meant for, by name."""
        found = {name: self.plan(task) for name, task in sorted(self.app.tasks.items())}
        return {name: plan for name, plan in found.items() if plan is not None}

    def summary(self) -> str:
        """Say in one line what holds for how many tasks, and where claims live."""
        count = len(self.plans())
        return (
            f"{self.policies.source} holds for {count} task{'s' * (count != 1)}; "
            f"claims live in {shown(self.settings.store)}"
        )

    def warnings(self) -> list[str]:
        """Return what will surprise: settings that nobody reads, names that no task fits."""
        return (
            misspelt(self.app.conf)
            + [self.no_policy] * bool(self.no_policy)
            + [str(problem) for problem in self.unused()]
        )

    def unused(self) -> Iterator[Problem]:
        """Return the names and globs of the policy that no task fits."""
        return unused(self.app, self.policies)

    def _plan_of_call(self, task: Task) -> Plan | None:
        """Return none, and say once in this process why: whoever calls sees no worker's log."""
        self.tell_once(self.no_policy, "%s", self.no_policy)
        return self.plan(task)

    def _store_failed(self, key: str, error: StoreError) -> None:
        tell(signals.store_failed, self.app, key=key, exception=error)


def all_mistakes(app: Celery) -> list[Problem]:
    """Return every mistake in the app's policy: names that no task fits as well.

    Only where all the app's tasks are known.
    """

    def further(policies: PolicySet) -> Iterator[Problem]:
        yield from unfit(app, policies)
        yield from unused(app, policies)

    try:
        load_policy(read_settings(app.conf, app.main).policy, further=further)
    except PolicyError as error:
        return list(error.problems)
    return []


def unfit(app: Celery, policies: PolicySet) -> Iterator[Problem]:
    """Return what of a policy cannot work for the app's tasks."""
    # Pending tasks are checked when they are first called: no app is finalized from here.
    for task in app._tasks.values():
        yield from problems_of(task, policies, unshareable)


def unused(app: Celery, policies: PolicySet) -> Iterator[Problem]:
    """Return the names and globs of a policy that no task of the app fits."""
    found = (policy_of(name, policies) for name in app._tasks)
    used = {policy.pattern for policy in found if policy is not None}
    for pattern in policies.patterns:
        if pattern not in used:
            nearest = did_you_mean(pattern, app._tasks)
            message = f"no task of this app fits `{pattern}`{nearest}"
            yield policies.problem(pattern, None, message)


def missing(settings: Settings) -> str:
    """Say that there is no file where a policy is looked for, though nobody has named it."""
    if settings.policy_is_named or os.path.lexists(str(settings.policy)):
        return ""
    return (
        f"there is no {settings.policy} in {os.getcwd()}: no task has a policy; "
        "create it, or set `jobtastic_policy` or the environment's JOBTASTIC_POLICY to the path of "
        "the policy file"
    )


def server_of(url: str) -> tuple[str, str]:
    """Return what tells one server from another: its hosts and ports, or its path."""
    scheme, _, rest = url.partition("://")
    place = rest.rpartition("@")[2].partition("?")[0]
    if "socket" in scheme or "sqlite" in scheme:
        return "file", place
    hosts = place.partition("/")[0].partition(";")[0].replace("localhost", "127.0.0.1")
    port = PORTS.get(scheme.lower(), 6379)
    return "host", hosts if ":" in hosts else f"{hosts}:{port}"


def runtime_of(app: Celery) -> Runtime | None:
    """Return the app's runtime, built now if need be.

    None for an app without the step, one that is switched off, and one that is always eager.

    Raises `ConfigurationError` (of which `PolicyError` is one) while the settings are wrong.
    """
    runtime: Runtime | None = getattr(app, ATTRIBUTE, None)
    if runtime is not None:
        return runtime
    if not is_enabled(app) or app.conf.task_always_eager:
        return None
    with _building:
        runtime = getattr(app, ATTRIBUTE, None)
        if runtime is None:
            runtime = Runtime(app)
            setattr(app, ATTRIBUTE, runtime)
            logger.debug("jobtastic_ext enabled in process %d", os.getpid())
        return runtime


def prepare(app: Celery) -> None:
    """Of an app with the step, results know whose they are, even before the first call."""
    if is_enabled(app):
        enrich(app, forgotten)


def forgotten(app: Celery, task_id: str, name: str | None) -> None:
    """Somebody has called `forget()` of a result: leave word for those who may share it."""
    try:
        runtime = runtime_of(app)
        if runtime is None:
            return
        task = app.tasks.get(name) if name else None
        plan = runtime.plan(task) if task is not None else None
        if task is None or (plan is not None and plan.shares):
            runtime.results.leave_word(task_id)
    except JobtasticError as error:
        logger.warning("nobody is told that the result of %s was forgotten: %s", task_id, error)


def is_enabled(app: Celery) -> bool:
    """Whether the app has the bootstep, and nothing switches it off."""
    return has_step(app) and not switched_off(app.conf)


def has_step(app: Celery) -> bool:
    """Whether the app has the bootstep."""
    steps = app.steps["worker"]
    return bool(steps) and any(map(enables, steps))


def enables(step: Any) -> bool:
    """Whether a bootstep, given as a class or by its name, is ours."""
    found: Any = symbol_by_name(step)
    return bool(getattr(found, "enables_jobtastic", False))


def close_runtime(app: Celery) -> None:
    """Let go of the app's runtime; the next call builds it anew."""
    runtime: Runtime | None = getattr(app, ATTRIBUTE, None)
    if runtime is None:
        return
    delattr(app, ATTRIBUTE)
    runtime.stop_keeper()
    runtime.ticker().close()
    positions: QueuePositions | None = runtime.__dict__.get("positions")
    if positions is not None:
        positions.breaker.close()
    runtime.reporter.close()
    queues: RedisQueues | None = runtime.__dict__.get("queues")
    if queues is not None:
        queues.close()
    if runtime.memory is not None:
        runtime.memory.close()
    runtime.subscriptions.restore()
    runtime.results.close()
    runtime.progress.close()
    runtime.owed_to_store().close()
    runtime.owed_to_results().close()
    runtime.broker.close()
    runtime.tally.close()
    runtime.store.close()
