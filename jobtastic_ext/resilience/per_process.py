"""What belongs to one process, and a child that is forked from it does not inherit."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def per_process(make: Callable[[], T]) -> Callable[[], T]:
    """Return what gives each process an object of its own, made when it is first asked for.

    A forked child has no threads of its parent's, locks that one of them may have held, and sockets
    that are not its own.  What it inherits is kept, and never used: to be collected might say
    something on such a socket.
    """
    made: dict[int, T] = {}

    def own() -> T:
        pid = os.getpid()
        try:
            return made[pid]
        except KeyError:
            return made.setdefault(pid, make())

    return own


def start_daemon(run: Callable[..., object], name: str, *args: object) -> threading.Thread:
    """Start a thread that keeps no process alive; return it."""
    thread = new_daemon(run, name, *args)
    thread.start()
    return thread


def new_daemon(run: Callable[..., object], name: str, *args: object) -> threading.Thread:
    """Return such a thread, not started."""
    return threading.Thread(target=run, name=f"jobtastic-{name}", args=args, daemon=True)
