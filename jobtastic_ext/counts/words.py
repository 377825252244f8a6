"""The words by which calls and runs are counted: those of the log, of signals and of the docs."""

from __future__ import annotations

#: What became of a call at its caller.  Each call is counted under exactly one of them, so they add
#: up to all calls.
DECISIONS = {
    "published": "a message was sent for it",
    "joined": "an identical call was under way, and its run is shared",
    "cached": "the result of an identical call was reused",
    "stale": "the old result of an identical call was served",
    "refreshed": "it asked for a new run with `refresh=True`, and that was published",
    "buffered": "it runs once more after the run that was under way",
    "debounced": "it waits for a quiet time",
    "refused": "`DuplicateCall` was raised, at its caller or at the worker",
    "fallback_eager": "the broker did not take the message, and the task ran at its caller",
    "fallback_failed": "the broker did not take the message, and the caller got a failure",
    "unsent": "it raised something else, such as the broker's error",
}

#: What happened beside that.
EVENTS = {
    "ran": "the body of the task was entered",
    "failed": "a run has failed, or its process was lost",
    "reused": "a worker gave a message the outcome of another run",
    "refreshing": "a message was sent to refresh a result that was served stale",
    "taken_over": "a call was sent again under the id of a run or message that counted as lost",
    "freed_by_lease": "a run that never ended lost its call when its lease was over",
    "leaks": "a leak of memory was reported",
}

#: What `shadow` would have done, for calls that are counted as published.
SHADOW = {
    "shadow_joined": "would have been joined to a run under way",
    "shadow_cached": "would have been given a result",
    "shadow_stale": "would have been served an old result",
}

WORDS = (*DECISIONS, *EVENTS, *SHADOW)
