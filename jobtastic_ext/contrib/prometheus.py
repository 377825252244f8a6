"""Metrics for Prometheus: ``jobtastic_ext.contrib.prometheus.install(app)``.

Labels are names of tasks with a policy and the words of `jobtastic_ext.decisions`, never an
argument.  Needs ``pip install 'jobtastic_ext[prometheus]'``.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from functools import partial
from typing import Any
from weakref import WeakSet

from celery import Celery
from celery.concurrency.prefork import TaskPool
from celery.signals import worker_ready
from prometheus_client import (
    REGISTRY,
    CollectorRegistry,
    Counter,
    Histogram,
    multiprocess,
    start_http_server,
)

from .. import signals
from ..decisions import CALLS, EVENTS, MESSAGES
from .saved import Saved

__all__ = ("install", "uninstall")

logger = logging.getLogger("jobtastic_ext")

#: prometheus-client's own: where the processes of a worker or a server leave their numbers.
FOLDER = "PROMETHEUS_MULTIPROC_DIR"

#: Seconds: of a task's run, and of its wait for one.
BUCKETS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 150, 300, 600, 1800, 3600)

#: Signals that are counted by task alone, by the name of their counter.
BY_TASK = {
    "takeovers": "call_taken_over",
    "leases_expired": "run_freed",
    "runs_lost": "run_lost",
    "memory_leaks": "memory_leak_detected",
}

#: What each signal of `EVENTS` tells.
MEANINGS = {each.signal: each.meaning.capitalize() for each in EVENTS}


class Metrics:
    """The metrics in one registry, and the apps that they are of."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self.apps: WeakSet[Celery] = WeakSet()
        self.connected: list[tuple[Any, Callable[..., None]]] = []
        decided = ("task", "decision")
        self.calls = self.counter("calls", "Calls, by what became of them", *decided)
        self.messages = self.counter(
            "messages", "Messages in a worker's hand, by what became of them", *decided
        )
        self.shadow = self.counter(
            "shadow_calls", "Calls that were only observed, by what would have become", *decided
        )
        self.broker = self.counter("broker_failures", MEANINGS["broker_failed"], "task")
        self.store = self.counter("store_failures", MEANINGS["store_failed"])
        self.saved = self.counter(
            "saved_seconds", "Runs that there were not, times what a run takes", "task"
        )
        self.plain = {
            name: self.counter(name, MEANINGS[signal], "task") for name, signal in BY_TASK.items()
        }
        self.durations = self.histogram(
            "run_duration_seconds", "How long runs took", "task", "outcome"
        )
        self.waits = self.histogram("run_wait_seconds", "From a call to its run", "task")
        self.avoided = Saved(lambda task, seconds: self.saved.labels(task).inc(seconds))

    def counter(self, name: str, meaning: str, *labels: str) -> Counter:
        return Counter(f"jobtastic_{name}", meaning, labels, registry=self.registry)

    def histogram(self, name: str, meaning: str, *labels: str) -> Histogram:
        return Histogram(
            f"jobtastic_{name}", meaning, labels, registry=self.registry, buckets=BUCKETS
        )

    def connect(self) -> None:
        """Hear of everything that is counted."""
        for each in CALLS:
            self.on(each.signal, self.count_call, each.word)
        for each in MESSAGES:
            self.on(each.signal, self.count_message, each.word)
        for name, signal in BY_TASK.items():
            self.on(signal, self.count_plain, self.plain[name])
        self.on("call_refreshed", self.count_refresh)
        self.on("call_observed", self.count_shadow)
        self.on("broker_failed", self.count_broker)
        self.on("store_failed", self.count_store)
        self.on("run_started", self.note_wait)
        self.on("run_ended", self.note_run)

    def on(self, name: str, handler: Callable[..., None], *first: Any) -> None:
        signal, heard = getattr(signals, name), partial(handler, *first)
        signal.connect(heard, weak=False)
        self.connected.append((signal, heard))

    def disconnect(self) -> None:
        self.avoided.close()
        for signal, heard in self.connected:
            signal.disconnect(heard)

    def is_ours(self, task: Any) -> bool:
        return task.app in self.apps

    def count_call(self, word: str, sender: Any, decision: str, **_: Any) -> None:
        # Signals of old are told of stale calls, too, beside their own.
        if decision == word and self.is_ours(sender):
            self.calls.labels(sender.name, word).inc()
            if word in ("joined", "debounced", "cached", "stale"):
                self.avoided.add(sender, 1)

    def count_message(self, word: str, sender: Any, **_: Any) -> None:
        if self.is_ours(sender):
            self.messages.labels(sender.name, word).inc()
            if word == "reused":
                self.avoided.add(sender, 1)

    def count_refresh(self, sender: Any, decision: str, **_: Any) -> None:
        if decision == "stale" and self.is_ours(sender):
            self.avoided.add(sender, -1)  # there is a run after all

    def count_shadow(self, sender: Any, decision: str, **_: Any) -> None:
        if self.is_ours(sender):
            self.shadow.labels(sender.name, decision).inc()

    def count_plain(self, counter: Counter, sender: Any, **_: Any) -> None:
        if self.is_ours(sender):
            counter.labels(sender.name).inc()

    def count_broker(self, sender: Any, **_: Any) -> None:
        if self.is_ours(sender):
            self.broker.labels(sender.name).inc()

    def count_store(self, sender: Any, **_: Any) -> None:
        if sender in self.apps:
            self.store.inc()

    def note_wait(self, sender: Any, waited: float | None, **_: Any) -> None:
        if waited is not None and self.is_ours(sender):
            self.waits.labels(sender.name).observe(waited)

    def note_run(self, sender: Any, outcome: str, seconds: float, **_: Any) -> None:
        if self.is_ours(sender):
            self.durations.labels(sender.name, outcome).observe(seconds)


#: By registry: a name may stand in one only once, however many apps there are.
_metrics: dict[CollectorRegistry, Metrics] = {}

#: By app and registry: what serves its numbers when its worker is ready.
_servers: dict[tuple[int, int], Callable[..., None]] = {}


def install(
    app: Celery,
    *,
    port: int | None = None,
    address: str = "127.0.0.1",
    registry: CollectorRegistry = REGISTRY,
) -> None:
    """Count what is decided for the tasks of `app`; to do it twice is harmless.

    Call it where the app is made, so that producers and workers both count.  Where a process
    serves its metrics already (``/metrics`` of a web application), that is all.  With `port` the
    worker serves them at ``http://address:port/metrics``.  A prefork worker, or a server of several
    processes, needs the folder `$PROMETHEUS_MULTIPROC_DIR`, empty at its start.
    """
    metrics = _metrics.get(registry)
    if metrics is None:
        metrics = _metrics[registry] = Metrics(registry)
        metrics.connect()
    metrics.apps.add(app)
    place = (id(app), id(registry))
    if port is not None and place not in _servers:
        _servers[place] = partial(serve, app, port, address, registry)
        worker_ready.connect(_servers[place], weak=False)


def uninstall(app: Celery, registry: CollectorRegistry = REGISTRY) -> None:
    """Undo `install`."""
    metrics = _metrics.get(registry)
    if metrics is None:
        return
    server = _servers.pop((id(app), id(registry)), None)
    if server is not None:
        worker_ready.disconnect(server)
    metrics.apps.discard(app)
    if not metrics.apps:
        del _metrics[registry]
        metrics.disconnect()
        every = (metrics.calls, metrics.messages, metrics.shadow, metrics.broker, metrics.store)
        more = (metrics.saved, metrics.durations, metrics.waits, *metrics.plain.values())
        for each in (*every, *more):
            registry.unregister(each)


def serve(
    app: Celery, port: int, address: str, registry: CollectorRegistry, sender: Any, **_: Any
) -> None:
    """The worker's main process is ready: serve what it and its children have counted."""
    if sender.app is not app:
        return
    if os.environ.get(FOLDER):
        registry = CollectorRegistry()
        collector: Any = multiprocess.MultiProcessCollector
        collector(registry)
    elif issubclass(sender.controller.pool_cls, TaskPool):
        logger.warning(
            "the metrics of the children of this worker are not seen: set %s to an empty folder "
            "before it starts",
            FOLDER,
        )
    try:
        start_http_server(port, address, registry)
    except OSError as error:
        logger.warning("no metrics are served at %s:%d: %s", address, port, error)
