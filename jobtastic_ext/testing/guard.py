"""Ends the demo's worker, children and all, when the demo itself has been killed.

The worker imports it by ``--include``; a project of one's own needs nothing like it.
"""

from __future__ import annotations

import os
import signal
import time
from threading import Thread
from typing import Any

from celery.signals import worker_ready

__all__ = ("DEMO",)

#: Names the process that started the worker.
DEMO = "JOBTASTIC_DEMO_PID"


@worker_ready.connect(weak=False)  # type: ignore[untyped-decorator]
def begin(**_: Any) -> None:
    """Start to watch, now that the pool has forked."""
    Thread(target=watch, args=(int(os.environ[DEMO]),), daemon=True).start()


def watch(demo: int) -> None:
    while os.getppid() == demo:
        time.sleep(0.5)
    os.killpg(0, signal.SIGKILL)
