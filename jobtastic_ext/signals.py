"""Signals that other code may connect to: one for each word of `jobtastic_ext.decisions`.

All are `celery.utils.dispatch.Signal`.  A handler that raises is logged and changes nothing; while
nobody listens, nothing is made.  The sender is the task; that of `store_failed`, which concerns
every task, is the app.
"""

from __future__ import annotations

from celery.utils.dispatch import Signal

__all__ = (
    "broker_failed",
    "call_buffered",
    "call_cached",
    "call_debounced",
    "call_fallback",
    "call_joined",
    "call_observed",
    "call_published",
    "call_refreshed",
    "call_refused",
    "call_stale",
    "call_taken_over",
    "memory_leak_detected",
    "run_dropped",
    "run_ended",
    "run_freed",
    "run_lost",
    "run_refused",
    "run_reused",
    "run_started",
    "run_waits",
    "store_failed",
)

#: What each signal of a call provides.  `task_id` is that of the result which the caller gets,
#: `decision` its `result.decision`; `key` is empty where nothing could be shared; `trace` is what
#: `contrib.otel` has left with the run that serves the call, mostly nothing.
CALL = frozenset({"task_id", "key", "args", "kwargs", "decision", "trace"})

#: What each signal of a message in a worker provides.  `other` is the task id of the run that it
#: waits for, whose outcome it takes, or because of which it is refused; `trace` is that run's.
RUN = frozenset({"task_id", "key", "args", "kwargs", "other", "trace"})

#: A message was sent: there was nothing to share.
call_published = Signal(name="call_published", providing_args=CALL)

#: An identical call was queued or running: its run is shared.
call_joined = Signal(name="call_joined", providing_args=CALL)

#: A finished call was reused; `decision` is ``cached``, or ``stale`` for an old result.
call_cached = Signal(name="call_cached", providing_args=CALL)

#: A finished call was reused whose result is old.  `call_cached` is told as well.
call_stale = Signal(name="call_stale", providing_args=CALL)

#: A new run was started to replace a cached result; `task_id` is the new run's.  `decision` is
#: ``refreshed`` if the caller asked for it, ``stale`` if the caller was given the old one.
call_refreshed = Signal(name="call_refreshed", providing_args=CALL)

#: One more run was bought, after the one that is under way (``on_duplicate: buffer_one``).
call_buffered = Signal(name="call_buffered", providing_args=CALL)

#: The call shares a run that begins when there are no more calls (``debounce``).
call_debounced = Signal(name="call_debounced", providing_args=CALL)

#: The message could not be sent: the task ran at its caller, or has failed.
call_fallback = Signal(name="call_fallback", providing_args=CALL)

#: `DuplicateCall` is raised (``on_duplicate: raise``); `task_id` is the task that holds the call.
call_refused = Signal(name="call_refused", providing_args=CALL)

#: In ``shadow``: `decision` is what would have become of the call, which runs all the same.
call_observed = Signal(name="call_observed", providing_args=CALL)

#: The call was sent under the id of a run, or of a message, that counts as lost.
call_taken_over = Signal(name="call_taken_over", providing_args=CALL)

#: The body of a policy task begins, in a worker (`call_fallback` tells of a run at its caller).
#: `waited` is the seconds since its call by the store's clock, None where that is not known.
run_started = Signal(name="run_started", providing_args=RUN | {"waited"})

#: The body is over.  `outcome` is a word of `decisions.OUTCOMES`; `seconds` is how long it took.
run_ended = Signal(name="run_ended", providing_args=RUN | {"outcome", "seconds"})

#: A message ended with the outcome of another run.
run_reused = Signal(name="run_reused", providing_args=RUN)

#: A message waits in the broker for a run.
run_waits = Signal(name="run_waits", providing_args=RUN)

#: A message ended without a run: a late copy, one that was given up, or a needless duplicate.
run_dropped = Signal(name="run_dropped", providing_args=RUN)

#: A message failed with `DuplicateCall`.
run_refused = Signal(name="run_refused", providing_args=RUN)

#: A run that never ended lost its call when its lease was over.  Provides `task_id`, who has the
#: call now (the same id, at a caller that sends it again), and `key`.
run_freed = Signal(name="run_freed", providing_args={"task_id", "key"})

#: The process that ran a task is gone; told by the worker's main process.  Provides `task_id` and
#: `key`.
run_lost = Signal(name="run_lost", providing_args={"task_id", "key"})

#: A message could not be sent.  Provides `task_id`, `key` (empty for a task without a policy) and
#: `exception`.
broker_failed = Signal(name="broker_failed", providing_args={"task_id", "key", "exception"})

#: The store of claims did not answer.  Provides `key`, `exception`.
store_failed = Signal(name="store_failed", providing_args={"key", "exception"})

#: A run grew its process (`kind` is ``"run"``), or memory grows from run to run (``"trend"``).
#: Provides `task_id`, `growth`, `beginning_usage`, `ending_usage` (MB), `args`, `kwargs` and, as
#: they may be shown, `argsrepr`, `kwargsrepr`; for a trend, `growth` is that of `runs` runs, and
#: `per_run` is MB a run, else None.
memory_leak_detected = Signal(
    name="memory_leak_detected",
    providing_args={
        *("task_id", "kind", "growth", "beginning_usage", "ending_usage", "per_run", "runs"),
        *("args", "kwargs", "argsrepr", "kwargsrepr"),
    },
)
