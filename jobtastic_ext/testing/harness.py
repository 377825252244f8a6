"""What the pytest fixture `jobtastic` is: an app's policy, tried in this process and in memory."""

from __future__ import annotations

import functools
import os
import time
import uuid
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from datetime import datetime, timedelta, timezone
from typing import Any

from celery import Celery
from celery.app.task import Task
from celery.result import AsyncResult
from celery.utils.time import maybe_iso8601
from celery.worker.request import Request
from kombu import Connection
from kombu.transport.memory import Channel
from kombu.transport.virtual import Message as VirtualMessage

from ..errors import ConfigurationError, PolicyError
from ..plugin import handlers
from ..plugin.bootstep import JobtasticStep
from ..plugin.patch import install
from ..policy.problems import did_you_mean
from ..runtime import Runtime, close_runtime, runtime_of
from ..settings import SWITCH
from ..stores.memory import forget_shared, shared
from ..worker.identity import new_worker_token
from ..worker.wrapping import unwrap_tasks, wrap_tasks
from .doors import watch_doors
from .unlike import Seen, why_not_one

__all__ = ("Harness",)

#: What of the environment would send messages elsewhere, or switch everything off.
ENVIRON = (
    SWITCH,
    *("CELERY_BROKER_URL", "CELERY_BROKER_READ_URL", "CELERY_BROKER_WRITE_URL"),
    "CELERY_RESULT_BACKEND",
)

#: Where messages and results are meanwhile.
IN_MEMORY = {
    "broker_url": "memory://",
    "broker_read_url": "memory://",
    "broker_write_url": "memory://",
    "result_backend": "cache+memory://",
    "task_always_eager": False,
    "jobtastic_enabled": True,
}


class Harness:
    """Tries policies without a broker, a result backend or a worker; clean when it is closed.

    What is called waits in memory until `run` (or `assert_runs`) runs it here, one message after
    the other, as a worker's child does.  Calls of apps that are under no policy (yet) raise
    `ConfigurationError`: they would go to a broker.
    """

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._apps: dict[Celery, ExitStack] = {}
        self._ahead = timedelta()
        self._runs: Counter[str] = Counter()
        self._seen: dict[str, Seen] = {}
        self._url = f"memory://{uuid.uuid4().hex}"
        install()
        watch_doors(self._apps.__contains__, self._see, self._stack)

    def policy(self, app: Celery, policy: Mapping[str, Any] | str | os.PathLike[str]) -> None:
        """Put an app under a policy (a mapping, or the path of a file) until the test ends.

        Does what the step does in a worker, for an app that lacks it, too.  May be called again:
        claims and results stay.  Raises `PolicyError` for a mistake in it; a mapping that names
        tasks which the app does not have is one.
        """
        if not self._apps:
            self._begin()
        if app in self._apps:
            self._apps.pop(app).close()
        stack = self._apps[app] = ExitStack()
        self._stack.callback(stack.close)
        conf = {**IN_MEMORY, "jobtastic_store": self._url, "jobtastic_policy": policy}
        self._set_aside(app, conf, stack)
        app.steps["worker"].add(JobtasticStep)
        runtime = runtime_of(app)
        if runtime is None:
            raise ConfigurationError(f"{app} cannot be put under a policy")
        stack.callback(close_runtime, app)
        if isinstance(policy, Mapping) and (unused := list(runtime.unused())):
            raise PolicyError(unused)
        self._prepare_tasks(runtime, stack)

    def tick(self, seconds: float) -> None:
        """Move the clock of the claims, and of messages with a countdown, ahead."""
        if seconds < 0:
            raise ValueError(f"time goes ahead only, and not by {seconds} s")
        self._ahead += timedelta(seconds=seconds)

    def run(self) -> int:
        """Run what is queued and due, and what that queues in turn; return how many messages."""
        if not self._apps:
            raise ConfigurationError(
                "no app is under a policy; call jobtastic.policy(app, …) first"
            )
        count = 0
        while self._run_due():
            count += 1
        return count

    def runs(self, task: Task | str) -> int:
        """Return how often a task's body has run in this test: of messages, and called directly."""
        name = name_of(task)
        known = [each for app in self._apps for each in app.tasks]
        if name not in known:
            raise ConfigurationError(
                f"{name} is no task of an app that is under a policy{did_you_mean(name, known)}; "
                "call jobtastic.policy(app, …) of its app first"
            )
        return self._runs[name]

    def assert_joined(self, first: AsyncResult, *others: AsyncResult) -> None:
        """Assert that calls share one run (or one cached result): their results have one id."""
        for other in others:
            assert first.id == other.id, self._why_not_one(first.id, other.id)

    def assert_runs(self, task: Task | str, count: int) -> None:
        """Run what is queued and due, and assert how often a task's body has run in this test."""
        self.run()
        found = self.runs(task)
        assert found == count, f"{name_of(task)} ran {found} times, and not {count}"

    def close(self) -> None:
        """Put every app back as it was."""
        self._stack.close()
        self._apps.clear()

    def _see(
        self, result: AsyncResult, task: Task, args: tuple[Any, ...], options: dict[str, Any]
    ) -> None:
        """Remember the call that a result's id comes from."""
        given = dict(zip(("args", "kwargs"), args, strict=False)) | options
        decision = str(getattr(result, "decision", "published"))
        call = Seen(task, given.pop("args", ()), given.pop("kwargs", {}), given, decision)
        self._seen.setdefault(result.id, call)

    def _why_not_one(self, first: str, other: str) -> str:
        words = f"these calls are not one: {first}, {other}"
        if first not in self._seen or other not in self._seen:
            return words
        one, two = self._seen[first], self._seen[other]
        runtime = runtime_of(one.task.app)
        return words if runtime is None else f"{words}: {why_not_one(runtime, one, two)}"

    def _begin(self) -> None:
        handlers.connect()
        new_worker_token()
        self._stack.callback(handlers.disconnect)
        self._stack.callback(Channel.queues.clear)
        Channel.queues.clear()
        shared(self._url, self._milliseconds)
        self._stack.callback(forget_shared, self._url)
        self._connection = self._stack.enter_context(Connection("memory://"))
        for name in ENVIRON:
            if name in os.environ:
                self._stack.callback(os.environ.__setitem__, name, os.environ.pop(name))

    def _set_aside(self, app: Celery, conf: Mapping[str, Any], stack: ExitStack) -> None:
        """Set the app's configuration, and keep what it holds of the old one for afterwards."""
        steps = app.steps["worker"]
        if JobtasticStep not in steps:
            stack.callback(steps.discard, JobtasticStep)
        close_runtime(app)
        app.finalize()
        changes = app.conf.changes
        for name, value in conf.items():
            put_back(changes, name, stack)
            app.conf[name] = value
        for holder, name in (
            *((app, name) for name in ("backend_cls", "_backend_cache", "_pool")),
            (app._local, "backend"),
            (app.amqp, "_producer_pool"),
        ):
            put_back(vars(holder), name, stack)
            if name in vars(holder):
                delattr(holder, name)
        app._backend_cache = None

    def _prepare_tasks(self, runtime: Runtime, stack: ExitStack) -> None:
        """Count the runs of every task, and wrap those of the policy."""
        tasks = [task for name, task in runtime.app.tasks.items() if not name.startswith("celery.")]
        for task in tasks:
            runtime.plan(task)  # by the signature of its own body
            for name in ("run", "__trace__"):
                put_back(vars(task), name, stack)
            task.run = self._counted(task.name, task.run)
            task.__trace__ = None
        wrap_tasks(runtime.deliveries)
        stack.callback(unwrap_tasks, runtime.deliveries)

    def _counted(self, name: str, body: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(body)
        def run(*args: Any, **kwargs: Any) -> Any:
            self._runs[name] += 1
            return body(*args, **kwargs)

        return run

    def _now(self) -> datetime:
        return datetime.now(timezone.utc) + self._ahead

    def _milliseconds(self) -> int:
        return time.time_ns() // 1_000_000 + self._ahead // timedelta(milliseconds=1)

    def _run_due(self) -> bool:
        """Run the first message that is due; return whether there was one."""
        for queue in list(Channel.queues.values()):
            for raw in list(queue.queue):
                app = self._app_of(raw["headers"])
                if app is not None:
                    queue.queue.remove(raw)
                    message = VirtualMessage(raw, channel=self._connection.default_channel)
                    Request(message, app=app, hostname="jobtastic").execute()
                    return True
        return False

    def _app_of(self, headers: Mapping[str, Any]) -> Celery | None:
        """Return the app whose message it is; None for one that is not due, or nobody's."""
        eta = headers.get("eta")
        if eta is not None and maybe_iso8601(eta) > self._now():
            return None
        return next((app for app in self._apps if headers.get("task") in app.tasks), None)


def name_of(task: Task | str) -> str:
    return task if isinstance(task, str) else str(task.name)


def put_back(holder: Any, name: str, stack: ExitStack) -> None:
    """Have an entry of a dict, or its absence, put back when the stack is closed."""
    if name in holder:
        stack.callback(holder.__setitem__, name, holder[name])
    else:
        stack.callback(holder.pop, name, None)
