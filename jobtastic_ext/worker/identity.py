"""How the runs of one worker are told from those of another."""

from __future__ import annotations

import os
import re
import socket

from ..claims.holders import NAMED

#: Set in the worker's main process; its children inherit it, by the fork.
WORKER_VARIABLE = "JOBTASTIC_WORKER"

#: Longest that the name of a worker may be in a claim.
LONGEST_NAME = 80


def new_worker_token(name: str = "") -> None:
    """Give this process, a worker's main process, a token of its own; once.

    It begins with the worker's name, by which an operator finds who holds a claim.
    """
    mine = f"{NAMED}{os.getpid():x}-"
    if mine not in os.environ.get(WORKER_VARIABLE, ""):
        plain = re.sub(r"[^A-Za-z0-9_.@-]", "_", name or socket.gethostname())[:LONGEST_NAME]
        os.environ[WORKER_VARIABLE] = f"{plain}{mine}{os.urandom(6).hex()}."


def worker_token() -> str:
    """Return the token of this worker, ending in a dot, with which all its runs begin."""
    if WORKER_VARIABLE not in os.environ:
        new_worker_token()
    return os.environ[WORKER_VARIABLE]


def child_token(pid: int | None) -> str:
    """Return the token, ending in a dot, with which the runs of one process of this worker begin.

    What is said of a process that is dead then cannot hit the next run of the same id, however late
    the store hears of it.  Where nobody knows which process it was, it is the worker's.
    """
    return worker_token() + (f"{pid:x}." if pid else "")
