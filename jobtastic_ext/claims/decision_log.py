"""The one log line for each decision, by which a suppressed call puzzles nobody."""

from __future__ import annotations

import logging

logger = logging.getLogger("jobtastic_ext")

#: What an answer of the store means, in words.
WHY = {
    "claimed": "no identical call is under way",
    "buffered": "it runs once more after the run that is under way",
    "debounced": "it shares the run that waits until there are no more calls",
    "hastened": "what waited is to run now",
    "free": "nothing to share",
    "takeover": "the run or the message that held the call counts as lost",
    "joined": "an identical call is under way",
    "cached": "an identical call has ended",
    "stale": "an identical call has ended and is being refreshed",
    "refresh": "an identical call has ended and is old",
}


def log_decision(
    name: str, task_id: str, key: str, decision: str, why: str, level: int = logging.INFO
) -> None:
    """Write which task was decided upon, how, and why."""
    logger.log(level, "%s[%s] %s: %s (key %s)", name, task_id, decision, why, key)
