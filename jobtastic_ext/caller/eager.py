"""What a caller gets when the message of its call cannot be sent: a run here, or a failure."""

from __future__ import annotations

import os
import pickle
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from traceback import format_exception
from typing import Any

from celery import states
from celery.result import AsyncResult, EagerResult
from kombu.exceptions import OperationalError

from ..broker.publisher import NOT_TAKEN, not_taken
from ..celery_internals import HERE
from ..claims.claimed_run import Run, keep_result
from ..claims.holders import NAMED
from ..claims.records import Renew
from ..errors import ResultsUnavailable, StoreError
from ..resilience.deadline import within
from ..resilience.per_process import start_daemon
from ..results.kinds import ONE_VALUE
from .sending import Caller, Sending

#: Options of `apply_async` that mean something to `Task.apply`.
EAGER_OPTIONS = ("priority", "exchange", "routing_key", "throw")

#: Least seconds that a failure is given to reach the result backend before the caller goes on.
LEAST_WAIT = 0.2

#: Seconds for which it is worth while to tell the result backend of a call that is over.
RESULT_WORTH = 3600.0

#: Bytes that a value is taken to have which cannot be measured.
UNKNOWN = 1_000_000


def failed_result(sending: Sending, task_id: str, error: BaseException) -> AsyncResult:
    """Return a result that has failed, and tell the result backend as soon as that is possible.

    The failure is in the object itself, too: to read it needs no backend.  It says that the message
    was not taken and the type of `error`, and nothing that a driver says of servers and messages.
    """
    error = OperationalError(str(error)) if is_ours(error) else not_taken(error)
    traceback = "".join(format_exception(error))
    store(sending.caller, task_id, error, states.FAILURE, traceback, sending.left)
    result = sending.task.AsyncResult(task_id)
    result._set_cache(
        {
            "task_id": task_id,
            "status": states.FAILURE,
            "result": error,
            "traceback": traceback,
            "children": [],
        }
    )
    return result


def is_ours(error: BaseException) -> bool:
    return isinstance(error, OperationalError) and str(error).startswith(NOT_TAKEN)


def store(
    caller: Caller, task_id: str, value: Any, state: str, traceback: str | None, left: float
) -> bool:
    """Store an outcome; return whether that has happened.

    If the backend is down, it is done later.  A value that cannot be stored is recorded as a
    failure, as a worker does.
    """
    if not caller.results.takes_outcomes:
        return False

    def write() -> bool:
        try:
            caller.results.store(task_id, value, state, traceback)
        except ResultsUnavailable as error:
            cause = error.__cause__
            if not isinstance(cause, ONE_VALUE):
                raise
            # No outage, and it will be no better later.
            trace = "".join(format_exception(cause))
            caller.results.store(task_id, cause, states.FAILURE, trace)
            return False
        return True

    def write_or_owe() -> bool:
        try:
            return write()
        except ResultsUnavailable:
            what = f"the outcome of task {task_id}"
            caller.owed_to_results().later(what, write, RESULT_WORTH, weight(value))
            return False

    with suppress(TimeoutError):
        return within(max(left, LEAST_WAIT), write_or_owe, lambda _: None)
    return False


def weight(value: Any) -> int:
    """Return about how many bytes it takes to keep a value."""
    try:
        return len(pickle.dumps(value))
    except Exception:  # noqa: BLE001 - whatever a value's class raises
        return UNKNOWN


def run_token() -> str:
    """Return the token of a run in a process that is no worker."""
    return f"{socket.gethostname()[:80]}{NAMED}{os.getpid():x}-{os.urandom(6).hex()}"


def run_unclaimed(sending: Sending, task_id: str) -> EagerResult:
    """Run the task in this process, and let the result backend know how it ended."""
    left = sending.left
    try:
        result = apply(sending, task_id)
    except BaseException as error:
        store_raised(sending, task_id, error, left)
        raise
    if is_wanted(sending, result):
        store_end(sending, result, left)
    return result


def run_claimed(run: Run, sending: Sending) -> EagerResult:
    """The same for a run that holds the claim of its call: others may wait for it."""
    task_id, left = run.begun.task_id, sending.left
    try:
        with renewed(run):
            result = apply(sending, task_id, run.key)
    except BaseException as error:
        run.end(failed=True)
        store_raised(sending, task_id, error, left)
        run.release()
        raise
    run.end(failed=result.state != states.SUCCESS)
    if not (is_wanted(sending, result) and store_end(sending, result, left)):
        if run.terms.blind and result.state == states.SUCCESS:
            run.finish(failed=False)
        else:
            run.release()  # nobody could read it
        return result
    if result.state == states.SUCCESS:
        keep_result(run)
    run.finish(failed=result.state != states.SUCCESS)
    return result


def store_raised(sending: Sending, task_id: str, error: BaseException, left: float) -> None:
    """With `task_eager_propagates`, or when the process is told to end: nobody shall wait."""
    trace = "".join(format_exception(error))
    store(sending.caller, task_id, as_exception(error), states.FAILURE, trace, left)


def as_exception(error: BaseException) -> Exception:
    return error if isinstance(error, Exception) else RuntimeError(repr(error))


def is_wanted(sending: Sending, result: EagerResult) -> bool:
    """Whether the outcome is one that a result backend holds."""
    ignored = sending.options.get("ignore_result")
    if sending.task.ignore_result if ignored is None else ignored:
        return False
    return result.state in (states.SUCCESS, states.FAILURE)


def store_end(sending: Sending, result: EagerResult, left: float) -> bool:
    value, state, traceback = result.result, result.state, result.traceback
    return store(sending.caller, result.id, value, state, traceback, left)


def apply(sending: Sending, task_id: str, key: str = "") -> EagerResult:
    options = sending.options
    passed = {name: options[name] for name in EAGER_OPTIONS if options.get(name) is not None}
    passed["headers"] = {**(options.get("headers") or {}), HERE: key}
    count = sending.caller.tally.count if sending.caller.plan(sending.task) is not None else ignore
    count(sending.task.name, "ran")
    result = sending.task.apply(sending.args, sending.kwargs, task_id=task_id, **passed)
    if result.state == states.FAILURE:
        count(sending.task.name, "failed")
    return result


def ignore(task: str, word: str) -> None:
    """Of a task without a policy nothing is counted."""


@contextmanager
def renewed(run: Run) -> Iterator[None]:
    """Keep the lease of a run in this process, which has no keeper."""
    if run.unclaimed:
        yield
        return
    over = threading.Event()
    lease = run.terms.lease

    def keep() -> None:
        renew = Renew(task_id=run.begun.task_id, run=run.begun.run, lease=lease)
        while not over.wait(lease / 3000):
            with suppress(StoreError):  # tried again before the lease is over
                run.store.apply(run.key, renew)

    start_daemon(keep, "renew")
    try:
        yield
    finally:
        over.set()
