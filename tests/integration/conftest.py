"""A project of its own for each module: queue, keys, notes and (one) worker."""

from __future__ import annotations

import gc
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import celery
import pytest
from celery import Celery
from celery.app.task import Task
from celery.result import AsyncResult
from celery.signals import before_task_publish

from jobtastic_ext.runtime import close_runtime, runtime_of
from tests.reports import create
from tests.workers import Worker

if celery.VERSION < (5, 7):
    # `AsyncResult.__del__` unsubscribes; when the garbage collector runs it in the middle of
    # another unsubscription, older Celery waits for ever for a lock that it holds itself.
    gc.disable()

POLICY: dict[str, Any] = {
    "defaults": {"herd_avoidance_timeout": 60},
    "tasks": {
        "reports.work": {"significant_kwargs": ["x", "y"]},
        "reports.cached": {"significant_kwargs": ["x"], "cache_duration": "10m"},
        "reports.brief": {
            "significant_kwargs": ["x"],
            "cache_duration": "1s",
            "stale_while_revalidate": "30s",
        },
        "reports.shared": {},
        "reports.unbound": {},
        "reports.based": {},
        "reports.add": {},
        "reports.fails": {},
        "reports.flaky": {"cache_duration": "10m"},
        "reports.late": {},
        "reports.limited": {},
        "reports.softly": {},
        "reports.turns": {"on_duplicate": "serialize", "significant_kwargs": ["x"]},
        "reports.alone": {"on_duplicate": "raise"},
        "reports.refused": {},
        "reports.unsent": {},
        "reports.departs": {"significant_kwargs": ["x", "final"]},
        "reports.hands_on": {},
        "reports.quiet": {},
        "reports.early": {},
        "reports.steps_aside": {},
        "reports.progress": {},
    },
}


class Project:
    """An app as a producer sees it, and the workers that it starts."""

    def __init__(self, conf: dict[str, Any]) -> None:
        self.conf = conf
        self.app: Celery = create(conf)
        self.notes = self.app.notes
        self.stack = ExitStack()
        self.workers: list[Worker] = []

    def task(self, name: str) -> Task:
        return self.app.tasks[f"reports.{name}"]

    def worker(self, **options: Any) -> Worker:
        """Start a worker that ends with the project."""
        self.workers.append(self.stack.enter_context(Worker(self.conf, **options)))
        return self.workers[-1]

    @contextmanager
    def gate(self, name: str) -> Iterator[str]:
        """A gate for runs to wait at while something is done; then it is open, come what may."""
        try:
            yield name
        finally:
            self.notes.open(name)

    def says(self, text: str) -> int:
        """How often a text is in the logs of the workers."""
        return sum(worker.output().count(text) for worker in self.workers)

    def runs(self, name: str, x: Any) -> int:
        """How often the body of a task has run for this x."""
        return sum(line["x"] == x for line in self.notes.read(name))

    def claim(self, name: str, *args: Any, **kwargs: Any) -> Any:
        """What the store holds for a call."""
        runtime = runtime_of(self.app)
        assert runtime is not None
        plan = runtime.plan(self.task(name))
        assert plan is not None
        return runtime.store.read(plan.key(args, kwargs))

    def close(self) -> None:
        self.stack.close()
        close_runtime(self.app)
        self.app.close()
        self.notes.close()


class Copier:
    """Sends copies of a message that is published in its context, as a broker's failover does."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self.message: dict[str, Any] = {}

    def __enter__(self) -> Copier:
        before_task_publish.connect(self.see)
        return self

    def __exit__(self, *_: object) -> None:
        before_task_publish.disconnect(self.see)

    def see(self, sender: str, headers: dict[str, Any], body: Any, **_: Any) -> None:
        self.message = {"name": sender, "args": body[0], "kwargs": body[1], "headers": headers}

    def send_again(self) -> AsyncResult:
        header = {"jobtastic": self.message["headers"]["jobtastic"]}
        return self.project.app.send_task(
            self.message["name"],
            self.message["args"],
            self.message["kwargs"],
            task_id=self.message["headers"]["id"],
            headers=header,
        )


def settings_of(redis_server: Any, store: str, folder: Path) -> dict[str, Any]:
    name = uuid.uuid4().hex[:12]
    stores = {"redis": redis_server.url(2), "sqlite": f"sqlite:///{folder / 'claims.sqlite3'}"}
    return {
        "broker_url": redis_server.url(0),
        "result_backend": redis_server.url(1),
        "task_default_queue": f"queue-{name}",
        "worker_send_task_events": False,
        # Celery kills a child that has not said within 4 s that it is there.
        "worker_proc_alive_timeout": 60,
        "broker_connection_retry_on_startup": True,
        "jobtastic_policy": POLICY,
        "jobtastic_store": stores[store],
        "jobtastic_key_prefix": f"test-{name}",
        "jobtastic_lease": 2,
        "notes_url": redis_server.url(3),
        "notes_name": f"notes-{name}",
    }


#: A busy machine may keep a call waiting for longer than the package's defaults, and what comes
#: then is not what most tests are about.  A module that is about it says ``BOUNDED = True``.
PATIENT = {"jobtastic_store_timeout": 10, "jobtastic_publish_timeout": 10}


def patience_of(request: pytest.FixtureRequest) -> dict[str, Any]:
    return {} if getattr(request.module, "BOUNDED", False) else PATIENT


@pytest.fixture(scope="module")
def start_project(
    request: pytest.FixtureRequest, redis_server: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., Project]]:
    """Make projects, each with its own settings on top of the usual ones."""
    with ExitStack() as stack:

        def start(store: str = "redis", **settings: Any) -> Project:
            usual = settings_of(redis_server, store, tmp_path_factory.mktemp("project"))
            project = Project({**usual, **patience_of(request), **settings})
            stack.callback(project.close)
            return project

        yield start


@pytest.fixture(scope="module")
def project(start_project: Callable[..., Project]) -> Project:
    """A project with a prefork worker of four, whose calls and runs are not given up soon."""
    project = start_project(jobtastic_lease=30)
    project.worker()
    return project


@pytest.fixture(scope="module", params=["redis", "sqlite"])
def either(request: pytest.FixtureRequest, start_project: Callable[..., Project]) -> Project:
    """The same on each store that many processes share."""
    project = start_project(request.param, jobtastic_lease=30)
    project.worker()
    return project


@pytest.fixture
def unique() -> str:
    """An argument that no other test uses."""
    return uuid.uuid4().hex[:12]


def wait_until(condition: Callable[[], Any], seconds: float = 60, why: str = "") -> Any:
    """Wait for something that another process does; return what the condition returned."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError(f"waited {seconds} s in vain{': ' + why if why else ''}")
