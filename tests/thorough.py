"""How much is tried: all of it in CI, less of the same where somebody waits for it."""

from __future__ import annotations

import os

#: Whether to take the time that it takes.
CI = bool(os.environ.get("CI"))


def examples(number: int) -> int:
    """How many of Hypothesis': a quarter where it is not CI, or what HYPOTHESIS_EXAMPLES says."""
    return int(os.environ.get("HYPOTHESIS_EXAMPLES") or (number if CI else number // 4))
