"""Waits no longer than a time that is given, for code that knows no bound of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

__all__ = ("hurried", "is_hurried", "within")

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
    lock, done = threading.Lock(), threading.Event()
    outcome: dict[str, Any] = {}

    def run() -> None:
        try:
            found: dict[str, Any] = {"value": function()}
        except BaseException as error:  # noqa: BLE001 - raised again in the caller
            found = {"error": error}
        with lock:
            outcome.update(found)
            is_late = "given up" in outcome
        done.set()
        if is_late and "value" in found:
            late(found["value"])

    threading.Thread(target=run, name="jobtastic-bounded", daemon=True).start()
    done.wait(max(seconds, 0))
    with lock:
        if not outcome:
            outcome["given up"] = True
            raise TimeoutError(f"no answer within {seconds:.3g} s")
    if "error" in outcome:
        raise outcome["error"]
    return outcome["value"]  # type: ignore[no-any-return]
