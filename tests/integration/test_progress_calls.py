"""Reports of a task whose worker is this very process, and of one whose app lacks the step."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import Any

import pytest
from billiard.exceptions import SoftTimeLimitExceeded
from celery import Celery
from celery.app.task import Task

import jobtastic_ext
from jobtastic_ext.hooks import state_of
from jobtastic_ext.runtime import runtime_of
from tests.integration.steps import Steps, start_steps

__all__ = ("start_steps",)


@contextmanager
def carried_out(task: Task) -> Iterator[str]:
    """Be in the midst of a run of `task`, without any of Celery's signals."""
    task_id = uuid.uuid4().hex
    task.push_request(id=task_id, called_directly=False, is_eager=False, delivery_info={})
    try:
        yield task_id
    finally:
        run = state_of(task.request).progress
        if run is not None:
            run.close()
        task.pop_request()


@pytest.mark.parametrize(("expires", "least", "most"), [(None, -1, -1), (0, -1, -1), (600, 1, 600)])
def test_a_state_lives_as_long_as_a_result(
    start_steps: Any, expires: int | None, least: int, most: int
) -> None:
    steps: Steps = start_steps(result_expires=expires)
    with carried_out(steps.task("plain")) as task_id:
        steps.task("plain").update_progress(1, 2)
    backend = steps.app.backend
    assert least <= backend.client.ttl(backend.get_key_for_task(task_id)) <= most


@pytest.mark.parametrize("serializer", ["json", "pickle", "yaml"])
def test_every_serializer(start_steps: Any, serializer: str) -> None:
    steps: Steps = start_steps(
        result_serializer=serializer, accept_content=["json", "pickle", "yaml"]
    )
    with carried_out(steps.task("plain")) as task_id:
        for n in range(3):
            steps.task("plain").update_progress(n, 3, message="läuft")
    result = steps.app.AsyncResult(task_id)
    assert (result.state, result.info["message"]) == ("PROGRESS", "läuft")
    assert jobtastic_ext.progress_of(result).total == 1


def test_an_app_without_the_step_shows_nothing_and_says_so(
    redis_server: Any, caplog: pytest.LogCaptureFixture
) -> None:
    app = Celery("bare", backend=redis_server.url(1), set_as_current=False)

    @app.task(name=f"bare.{uuid.uuid4()}", bind=True, shared=False)  # told once for each name
    def task(self: Task) -> None: ...

    with caplog.at_level(logging.WARNING), carried_out(app.tasks[task.name]) as task_id:
        for n in range(3):
            app.tasks[task.name].update_progress(n, 3)
        assert list(app.tasks[task.name].track("ab")) == ["a", "b"]
    assert app.AsyncResult(task_id).state == "PENDING"
    assert caplog.text.count("its app lacks the step") == 1


def test_outside_of_any_task(caplog: pytest.LogCaptureFixture) -> None:
    jobtastic_ext.update_progress(1, 2)
    assert list(jobtastic_ext.track(range(2))) == [0, 1]
    assert not caplog.records


class Broken:
    """Something that fails whatever one asks of it, as an object of a closed session may."""

    def fail(self, *_: Any) -> Any:
        raise RuntimeError("the session is closed")

    __float__ = __int__ = __index__ = __bool__ = __len__ = __str__ = __repr__ = fail
    __eq__ = __lt__ = __gt__ = __le__ = __ge__ = __sub__ = __rsub__ = fail
    __hash__ = object.__hash__


def odd_values() -> Iterator[Any]:
    """What no run can count by, from the standard library and, where it is there, from NumPy."""
    yield from (Decimal("NaN"), Decimal("sNaN"), Decimal("Infinity"), Broken(), 10**400, "3", 1j)
    yield from (object(), [1], {}, float("nan"))
    try:
        import numpy
    except ImportError:
        return
    yield from (numpy.arange(3), numpy.zeros((2, 2)), numpy.array([]), numpy.float64("nan"))
    yield from (numpy.datetime64("now"), numpy.complex128(1j), numpy.array(["a"], dtype=object))


@pytest.fixture
def under_way(start_steps: Any) -> Iterator[Task]:
    """A task that reports as it does in a worker, from within its run."""
    steps: Steps = start_steps()
    task = steps.task("plain")
    runtime = runtime_of(steps.app)
    assert runtime is not None
    with carried_out(task):
        runtime.reporter.on_prerun(task)
        try:
            yield task
        finally:
            runtime.reporter.on_postrun(task, None, None, (), {})


def percent(task: Task) -> float:
    run = state_of(task.request).progress
    run.due = 0
    run.tick()
    return run.state(run.clock())["progress_percent"]


def test_a_report_never_raises(under_way: Task, caplog: pytest.LogCaptureFixture) -> None:
    task = under_way
    with caplog.at_level(logging.WARNING, logger="jobtastic_ext"):
        task.update_progress(1, 100)
        for odd in odd_values():
            task.update_progress(odd, 100)
            task.update_progress(2, odd)
            task.update_progress(odd, odd)
            task.update_progress(3, 100, odd)
            task.update_progress(3, 100, message=odd)
        warned = [record.getMessage() for record in caplog.records]
        assert len(warned) == 1, warned
        assert "is left out" in warned[0]
        task.update_progress(50, 100)
    assert percent(task) == 50, "what is right is shown all the same"


def test_a_loop_never_raises(under_way: Task, caplog: pytest.LogCaptureFixture) -> None:
    task = under_way
    with caplog.at_level(logging.WARNING, logger="jobtastic_ext"):
        for odd in odd_values():
            for options in ({"total": odd}, {"update_frequency": odd}, {"message": odd}):
                assert list(task.track(range(3), **options)) == [0, 1, 2]
                assert list(jobtastic_ext.track(range(3), **options)) == [0, 1, 2]
        warned = [record.getMessage() for record in caplog.records]
    assert len(warned) == 1, warned


def test_numbers_of_numpy_are_numbers(under_way: Task) -> None:
    numpy = pytest.importorskip("numpy", reason="NumPy is not installed")
    total = numpy.int64(4)
    for done, kind in enumerate((numpy.int8, numpy.uint64, numpy.float32, numpy.array), 1):
        under_way.update_progress(kind(done), total, numpy.int64(1))
        assert percent(under_way) == 25 * done
    run = state_of(under_way.request).progress
    state = run.state(run.clock())
    assert {type(state[name]) for name in ("completed", "total")} <= {int, float}
    assert list(under_way.track(numpy.arange(3), total=numpy.int32(3))) == [0, 1, 2]


def test_counts_beyond_what_json_holds_are_shown(under_way: Task) -> None:
    under_way.update_progress(10**299, 10**300)
    assert percent(under_way) == pytest.approx(10)
    under_way.update_progress(2 * 10**299, 10**300)
    assert percent(under_way) == pytest.approx(20)


def test_a_soft_time_limit_reaches_the_task_from_within_a_report(under_way: Task) -> None:
    class Slow(Broken):
        def fail(self, *_: Any) -> Any:
            raise SoftTimeLimitExceeded

        __lt__ = __float__ = __index__ = fail

    for arguments in ((Slow(), 100), (1, Slow())):
        with pytest.raises(SoftTimeLimitExceeded):
            under_way.update_progress(*arguments)
