"""What binds those who share a run: opaque to the rules, and unlike any other.

It may carry where the call came from that caused the run, so that who joins it can point there.
"""

from __future__ import annotations

import os


def new_generation(trace: str = "") -> str:
    """Return a new one; `trace` is found again by `trace_of`."""
    own = os.urandom(8).hex()
    return f"{own}-{trace}" if trace else own


def trace_of(gen: str) -> str:
    """Return the trace that a generation carries, mostly nothing.  It may come from outside."""
    return gen.partition("-")[2]
