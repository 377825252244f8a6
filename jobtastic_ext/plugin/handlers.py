"""Which of Celery's signals ends up where.  No logic: each handler hands on and returns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from billiard.exceptions import TimeLimitExceeded, WorkerLostError
from celery import signals
from celery.utils.dispatch import Signal

from ..hooks import RunHooks, tell_all
from ..memory.recycle import prepare_child
from ..runtime import runtime_of

Handler = Callable[..., None]


def on_received(sender: Any, request: Any, **_: Any) -> None:
    runtime = runtime_of(request.app)
    if runtime is not None:
        runtime.keeper.receive(request, sender)


def on_ready(sender: Any, **_: Any) -> None:
    runtime = runtime_of(sender.app)
    if runtime is None:
        return
    runtime.tally.watch()
    if any(plan.shares for plan in runtime.plans().values()):
        runtime.keeper.start()


def on_prerun(sender: Any, **_: Any) -> None:
    runtime = runtime_of(sender.app)
    if runtime is not None:
        tell_all(runtime.hooks, RunHooks.on_prerun, sender)


def on_success(sender: Any, **_: Any) -> None:
    runtime = runtime_of(sender.app)
    if runtime is not None:
        tell_all(runtime.hooks, RunHooks.on_success, sender)


def on_postrun(
    sender: Any,
    state: str | None = None,
    retval: Any = None,
    args: Any = (),
    kwargs: Any = None,
    **_: Any,
) -> None:
    runtime = runtime_of(sender.app)
    if runtime is not None:
        tell_all(runtime.hooks, RunHooks.on_postrun, sender, state, retval, args, kwargs)


def on_failure(sender: Any, task_id: str, exception: BaseException, **_: Any) -> None:
    if not isinstance(exception, WorkerLostError | TimeLimitExceeded):
        return  # it was raised by the task, in its own process: `on_postrun` follows
    runtime = runtime_of(sender.app)
    if runtime is not None:
        runtime.keeper.lose(task_id)


def on_revoked(sender: Any, request: Any, terminated: bool = False, **_: Any) -> None:
    runtime = runtime_of(sender.app)
    if runtime is not None:
        runtime.keeper.revoke(sender, request, bool(terminated))


def on_shutdown(sender: Any, **_: Any) -> None:
    runtime = runtime_of(sender.app)
    if runtime is not None:
        runtime.stop_keeper()
        runtime.tally.flush_last()


def on_process_init(**_: Any) -> None:
    prepare_child()


#: Strong references: Celery's signals keep weak ones, and a handler must not vanish.
TABLE: tuple[tuple[Signal, Handler], ...] = (
    (signals.worker_ready, on_ready),
    (signals.task_received, on_received),
    (signals.task_prerun, on_prerun),
    (signals.task_success, on_success),
    (signals.task_postrun, on_postrun),
    (signals.task_failure, on_failure),
    (signals.task_revoked, on_revoked),
    (signals.worker_shutdown, on_shutdown),
)


#: Only in a worker that watches memory.
MEMORY: tuple[tuple[Signal, Handler], ...] = ((signals.worker_process_init, on_process_init),)


def connect(table: tuple[tuple[Signal, Handler], ...] = TABLE) -> None:
    """Connect every handler; doing it twice is harmless."""
    for signal, handler in table:
        signal.connect(handler, weak=False, dispatch_uid=uid(handler))


def uid(handler: Handler) -> str:
    """Name a handler; two of one name in two modules are two."""
    return f"{handler.__module__}.{handler.__name__}"


def disconnect() -> None:
    """Undo `connect`."""
    for signal, handler in TABLE + MEMORY:
        signal.disconnect(handler, dispatch_uid=uid(handler))
