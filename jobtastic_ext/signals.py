"""Signals that other code may connect to.

All are `celery.utils.dispatch.Signal`.  A handler that raises is logged and changes nothing.
The sender is the task; that of `store_failed`, which concerns every task, is the app.
"""

from __future__ import annotations

from celery.utils.dispatch import Signal

__all__ = (
    "broker_failed",
    "call_cached",
    "call_joined",
    "call_refreshed",
    "memory_leak_detected",
    "store_failed",
)

#: An identical call was queued or running: its run is shared.
#: Provides `task_id` (the run that is shared), `key`, `args`, `kwargs`.
call_joined = Signal(name="call_joined", providing_args={"task_id", "key", "args", "kwargs"})

#: A finished call was reused.  Provides the same as `call_joined`.
call_cached = Signal(name="call_cached", providing_args={"task_id", "key", "args", "kwargs"})

#: A new run was started to replace a cached result.  `task_id` is the new run's.
call_refreshed = Signal(name="call_refreshed", providing_args={"task_id", "key", "args", "kwargs"})

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
