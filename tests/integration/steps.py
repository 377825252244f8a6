"""A project of `tests.progress_app`, and a watcher that sees states as another process does."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from celery import Celery
from celery.app.task import Task
from celery.result import AsyncResult

from jobtastic_ext.runtime import close_runtime
from tests.integration.conftest import patience_of, settings_of
from tests.progress_app import create
from tests.workers import Worker

NAMES = "count loop unbound burst fails again outer limited odd own steady last"
#: `steps.plain` and `steps.inner` have no policy.
POLICY: dict[str, Any] = {
    "tasks": {
        **{f"steps.{name}": {} for name in NAMES.split()},
        "steps.silent": {"estimate_by": ["group"]},
        "steps.ignored": {"on_duplicate": "serialize"},
    }
}


class Steps:
    """An app as a producer sees it, and the workers that it starts."""

    def __init__(self, conf: dict[str, Any]) -> None:
        self.conf = conf
        self.app: Celery = create(conf)
        self.stack = ExitStack()
        self.workers: list[Worker] = []

    def task(self, name: str) -> Task:
        return self.app.tasks[f"steps.{name}"]

    def worker(self, **options: Any) -> Worker:
        worker = Worker(self.conf, app="tests.progress_app", **options)
        self.workers.append(worker)
        return self.stack.enter_context(worker)

    def close(self) -> None:
        self.stack.close()
        close_runtime(self.app)
        self.app.close()
        self.app.notes.close()


class Watcher:
    """Polls a task's state from outside, and keeps every state that differs from the last."""

    def __init__(self, result: AsyncResult, every: float = 0.02) -> None:
        self.backend, self.id = result.backend, result.id
        self.every = every
        self.seen: list[tuple[float, str, Any]] = []
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Watcher:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join(10)

    def _look(self) -> None:
        over = False
        while not over:
            over = self._done.is_set()  # and once more
            meta = self.backend._get_task_meta_for(self.id)
            now = meta["status"], meta["result"]
            if not self.seen or self.seen[-1][1:] != now:
                self.seen.append((time.monotonic(), *now))
            time.sleep(self.every)

    def progress(self) -> list[dict[str, Any]]:
        return [meta for _, state, meta in self.seen if state == "PROGRESS"]

    def percents(self) -> list[float]:
        return [meta["progress_percent"] for meta in self.progress()]

    def states(self) -> list[str]:
        """The states in their order, each run of equal ones once."""
        states = [state for _, state, _ in self.seen]
        return [s for s, before in zip(states, ["", *states], strict=False) if s != before]


@pytest.fixture(scope="module")
def start_steps(
    request: pytest.FixtureRequest, redis_server: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., Steps]]:
    """Make projects, each with its own settings on top of the usual ones."""
    with ExitStack() as stack:

        def start(store: str = "redis", **settings: Any) -> Steps:
            usual = settings_of(redis_server, store, tmp_path_factory.mktemp("steps"))
            steps = Steps({**usual, **patience_of(request), "jobtastic_policy": POLICY, **settings})
            stack.callback(steps.close)
            return steps

        yield start


@pytest.fixture(scope="module")
def steps(start_steps: Callable[..., Steps]) -> Steps:
    """A project with a prefork worker of two."""
    project = start_steps()
    project.worker(concurrency=2)
    return project
