"""Calls made before, during and after something happens to the store of claims."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from jobtastic_ext.runtime import runtime_of
from jobtastic_ext.signals import store_failed
from jobtastic_ext.stores.guarded import GuardedStore
from tests.integration.conftest import Project, wait_until
from tests.workers import Worker

TIMEOUT = 60

#: Of the store, and room for a busy machine.
DEADLINE, ROOM = 0.5, 5.0


class Crowd:
    """Threads that call, each argument twice, and note how long they waited."""

    def __init__(self, project: Project, worker: Worker, unique: str) -> None:
        self.task, self.unique, self.worker = project.task("cached"), unique, worker
        self.calls: dict[str, list[Any]] = {}
        self.waits: list[float] = []
        #: Keys of calls that had no answer of the store.
        self.unanswered: list[str] = []
        self._stop = threading.Event()
        self._rest, self._resting = threading.Event(), set[int]()
        self._threads = [threading.Thread(target=self._call, args=(n,)) for n in range(4)]

    def __enter__(self) -> Crowd:
        store_failed.connect(self._hear)
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(TIMEOUT)
        store_failed.disconnect(self._hear)

    def _hear(self, key: str, **_: Any) -> None:
        self.unanswered.append(key)

    def _call(self, thread: int) -> None:
        n = 0
        while not self._stop.wait(0.2):
            if self._rest.is_set():
                self._resting.add(thread)
                continue
            n += 1
            x = f"{self.unique}-{thread}-{n}"
            for _ in range(2):
                began = time.monotonic()
                result = self.task.delay(x, delay=0)
                self.waits.append(time.monotonic() - began)
                self.calls.setdefault(x, []).append(result)

    def missed(self) -> bool:
        """Whether caller or worker had no answer of the store."""
        return bool(self.unanswered) or "does not answer" in self.worker.output()

    def served(self) -> set[str]:
        """The arguments whose two calls were made, and have run."""
        made = self.calls.copy().items()
        return {x for x, calls in made if len(calls) == 2 and calls[0].ready()}

    @contextmanager
    def at_rest(self) -> Iterator[None]:
        """Nobody calls meanwhile, and what was called has run: the broker has nothing of it."""
        self._resting.clear()
        self._rest.set()
        wait_until(lambda: len(self._resting) == len(self._threads))
        wait_until(lambda: all(call.ready() for calls in self.calls.values() for call in calls))
        yield
        self._rest.clear()

    def go_on(self) -> None:
        """Return when some further calls were made and have run."""
        before = set(self.calls)

        def run() -> bool:
            since = [calls[0] for x, calls in self.calls.copy().items() if x not in before]
            return len(since) >= 20 and all(result.ready() for result in since[:20])

        wait_until(run)


def call_across(
    project: Project,
    worker: Worker,
    unique: str,
    harm: Callable[[Crowd], object],
    *,
    forgets: bool = False,
) -> tuple[Crowd, Counter[str]]:
    """Call all the time while `harm(crowd)` is done, and look at what must hold whatever it is.

    A run is under way meanwhile, which calls join afterwards, too; or that of one of them if the
    store `forgets`.  Returns also how often each argument of the crowd has run.
    """
    work, runtime = project.task("work"), runtime_of(project.app)
    assert runtime is not None
    store = runtime.store
    assert isinstance(store, GuardedStore)
    across: list[Any] = []

    def joins() -> bool:
        across.append(work.delay(unique, delay=0, gate=unique))
        return across[-1].id in {call.id for call in across[: -1 if forgets else 1]}

    with Crowd(project, worker, unique) as crowd:
        joins()
        wait_until(lambda: project.runs("work", unique))
        crowd.go_on()
        # On a busy machine the store may miss its time without being harmed.
        before = set() if crowd.missed() else crowd.served()
        harm(crowd)
        wait_until(lambda: not store.is_open)
        wait_until(joins)
        project.notes.open(unique)
        crowd.go_on()
    assert max(crowd.waits) < 2 * DEADLINE + ROOM
    for x, results in [*crowd.calls.items(), (unique, across)]:
        assert [result.get(timeout=TIMEOUT)["x"] for result in results] == [x] * len(results)
    ran = Counter(line["x"] for line in project.notes.read("cached"))
    assert max(ran.values()) <= 2
    assert all(ran[x] == 1 for x in before)
    return crowd, ran
