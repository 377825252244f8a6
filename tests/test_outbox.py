"""What is owed to servers that are down: bounded, and without the arguments of the calls."""

from __future__ import annotations

import gc
import logging
import threading
import tracemalloc
from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery

from jobtastic_ext import JobtasticStep
from jobtastic_ext.errors import StoreUnavailable
from jobtastic_ext.resilience import outbox
from jobtastic_ext.resilience.outbox import Outbox
from jobtastic_ext.runtime import close_runtime
from tests.servers import closed_port, wait_until


@pytest.fixture
def app() -> Iterator[Celery]:
    """An app whose servers all refuse."""
    app = Celery("owed", set_as_current=False)
    app.conf.update(
        broker_url=f"redis://127.0.0.1:{closed_port()}/0",
        result_backend=f"redis://127.0.0.1:{closed_port(1)}/1",
        jobtastic_store=f"redis://127.0.0.1:{closed_port(2)}/2",
        jobtastic_policy={"tasks": {"owed.shared": {}}},
    )
    app.steps["worker"].add(JobtasticStep)

    @app.task(name="owed.shared", shared=False)
    def shared(x: str, size: int = 0) -> str:
        return "x" * size

    @app.task(name="owed.plain", shared=False)
    def plain(x: str, size: int = 0) -> str:
        return "x" * size

    app.finalize()
    yield app
    close_runtime(app)
    app.close()


@pytest.mark.parametrize("name", ["shared", "plain"])
@pytest.mark.parametrize("mode", ["delay_or_fail", "delay_or_eager"])
def test_what_is_owed_holds_no_arguments(app: Celery, name: str, mode: str) -> None:
    # 300 calls kept 313 MB in a web process, for up to an hour.
    call = getattr(app.tasks[f"owed.{name}"], mode)
    call("warm")
    gc.collect()
    tracemalloc.start()
    try:
        for n in range(40):
            call(f"{n}" * 500_000)
        gc.collect()
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 10_000_000


def test_results_that_are_owed_are_bounded_in_bytes(app: Celery) -> None:
    call = app.tasks["owed.plain"].delay_or_eager
    call("warm")
    gc.collect()
    tracemalloc.start()
    try:
        for n in range(40):
            call(str(n), 1_000_000)
        gc.collect()
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < outbox.MOST_BYTES + 10_000_000


def test_the_oldest_are_dropped_and_that_is_said(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "MOST", 5)
    owed, down, written = Outbox(), threading.Event(), []

    def write(what: Any) -> None:
        if not down.is_set():
            raise StoreUnavailable("down")
        written.append(what)

    with caplog.at_level(logging.INFO, logger="jobtastic_ext"):
        for n in range(8):
            owed.later(f"number {n}", lambda n=n: write(n), 60)
        owed.later("large", lambda: write("large"), 60, outbox.MOST_BYTES - 3_000)
        down.set()
        wait_until(lambda: "in all" in caplog.text)
    assert written == [5, 6, 7, "large"]
    said = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert said == [
        "too much to write after the outage, oldest first: number 0",
        "5 in all were too much to be written",
    ]
