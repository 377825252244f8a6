"""How the runs of one worker are told from those of another."""

from __future__ import annotations

import os

#: Set in the worker's main process; its children inherit it, by the fork.
WORKER_VARIABLE = "JOBTASTIC_WORKER"


def new_worker_token() -> None:
    """Give this process, a worker's main process, a token of its own; once."""
    if not os.environ.get(WORKER_VARIABLE, "").startswith(f"{os.getpid():x}-"):
        os.environ[WORKER_VARIABLE] = f"{os.getpid():x}-{os.urandom(6).hex()}."


def worker_token() -> str:
    """Return the token of this worker, ending in a dot, with which all its runs begin."""
    if WORKER_VARIABLE not in os.environ:
        new_worker_token()
    return os.environ[WORKER_VARIABLE]
