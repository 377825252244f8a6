"""What the keeper of leases costs a worker that has thousands of messages in hand."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any
from weakref import WeakValueDictionary

from celery.worker import state

from jobtastic_ext.leases import Keeper


class Request:
    id, request_dict, task = "a", {}, None


class Held(WeakValueDictionary[str, Any]):
    """Messages with an eta: so many that nobody may go through them twice a second."""

    def items(self) -> Any:
        raise AssertionError("it goes through all that was received")

    __iter__ = keys = values = items


def test_a_look_does_not_go_through_what_only_waits() -> None:
    settings = SimpleNamespace(lease=30.0)
    keeper = Keeper(SimpleNamespace(plan=lambda task: None, settings=settings))  # type: ignore[arg-type]
    request = Request()
    keeper._received = Held(a=request)
    state.revoked.add("a")
    try:
        keeper._look()
    finally:
        state.revoked.discard("a")
    assert "a" not in keeper._received
