"""What the keeper of leases costs a worker that has thousands of messages in hand."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any
from weakref import WeakValueDictionary

from celery.worker import state

from jobtastic_ext.worker.lease_keeper import LeaseKeeper
from jobtastic_ext.worker.rate_limits import RateLimits


class Request:
    id, request_dict, task = "a", {}, None


class Held(WeakValueDictionary[str, Any]):
    """Messages with an eta: so many that nobody may go through them twice a second."""

    def items(self) -> Any:
        raise AssertionError("it goes through all that was received")

    __iter__ = keys = values = items


#: What it does not ask here.
PARTS = (lambda task: None, None, None, None)


def test_a_look_does_not_go_through_what_only_waits() -> None:
    settings = SimpleNamespace(lease=30.0)
    keeper = LeaseKeeper(*PARTS, settings.lease, None)  # type: ignore[arg-type]
    request = Request()
    keeper._received = Held(a=request)
    state.revoked.add("a")
    try:
        keeper._look()
    finally:
        state.revoked.discard("a")
    assert "a" not in keeper._received


def test_a_run_is_lost_once_however_often_it_is_said() -> None:
    counted: list[tuple[str, str]] = []
    tally = SimpleNamespace(count=lambda task, word: counted.append((task, word)))
    keeper = LeaseKeeper(*PARTS, 30.0, tally)  # type: ignore[arg-type]
    request: Any = Request()
    request.task = SimpleNamespace(name="shop.limit")
    keeper._received["a"] = request
    for _ in range(2):  # the hard time limit: when it is over, and when the child is gone
        keeper.lose("a")
    assert counted == [("shop.limit", "failed")]


def test_a_message_that_comes_back_takes_no_second_token_of_the_rate_limit() -> None:
    # The consumer looks the bucket up after `task_received`, for each delivery.
    task = SimpleNamespace(name="work", rate_limit="1/s")
    bucket = object()
    consumer = SimpleNamespace(task_buckets={"work": bucket, "other": bucket})
    limits = RateLimits()

    def limit(waited: bool) -> Any:
        limits.pass_by(task, consumer, waited=waited)
        return consumer.task_buckets["work"]

    assert [limit(waited) for waited in (False, True, True, False)] == [bucket, None, None, bucket]
    assert limit(True) is None
    consumer.task_buckets["work"] = changed = object()  # celery control rate_limit
    assert [limit(waited) for waited in (False, True, False)] == [changed, None, changed]
    assert limit(True) is None
    task.rate_limit = None
    assert limit(False) is None
    assert consumer.task_buckets["other"] is bucket
