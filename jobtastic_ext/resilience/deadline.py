"""Waits no longer than a time that is given, for code that knows no bound of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

from .per_process import start_daemon

T = TypeVar("T")


#: Whether the caller has a deadline for what has no bound as a rule: the look-up of a name.
_hurried: ContextVar[bool] = ContextVar("jobtastic_hurried", default=False)


@contextmanager
def hurried(is_so: bool) -> Iterator[None]:
    """Do what follows in a hurry, if `is_so`."""
    token = _hurried.set(is_so)
    try:
        yield
    finally:
        _hurried.reset(token)


def is_hurried() -> bool:
    return _hurried.get()


def within(seconds: float, function: Callable[[], T], late: Callable[[T], object]) -> T:
    """Return what `function` returns, called in a thread of its own.

    Raises what it raises, and TimeoutError after `seconds`.  The thread then goes on; what it
    returns in the end is given to `late`, and what it raises is dropped with it.
    """
    future: Future[T] = Future()

    def run() -> None:
        try:
            value = function()
        except BaseException as error:  # noqa: BLE001 - raised again in the caller
            if future.set_running_or_notify_cancel():
                future.set_exception(error)
        else:
            if future.set_running_or_notify_cancel():
                future.set_result(value)
            else:
                late(value)

    start_daemon(run, "bounded")
    if not wait([future], max(seconds, 0)).done and future.cancel():
        raise TimeoutError(f"no answer within {seconds:.3g} s")
    return future.result()
