"""The words by which calls and runs are counted: those of `jobtastic_ext.decisions`."""

from __future__ import annotations

from .. import decisions

CALLS = {each.word: each.meaning for each in decisions.CALLS}
MESSAGES = {each.word: each.meaning for each in decisions.MESSAGES}
BESIDE = {each.word: each.meaning for each in decisions.EVENTS}

#: What became of a call at its caller.  Each call is counted under exactly one of them, so they add
#: up to all calls.
DECISIONS = {
    **{word: meaning for word, meaning in CALLS.items() if word != "fallback"},
    "fallback_eager": "it could not be sent, and ran at its caller",
    "fallback_failed": "it could not be sent, and its result has failed",
    "unsent": "it raised something else, such as the broker's error",
}

#: What happened beside that.
EVENTS = {
    "ran": "a run began: of a message, or of a call that fell back",
    "failed": "a run has failed, or its process was lost",
    "reused": f"of a message: {MESSAGES['reused']}",
    "refreshing": "a message was sent to refresh a result that was served stale",
    "taken_over": BESIDE["taken over"],
    "freed_by_lease": BESIDE["freed by lease"],
    "leaks": BESIDE["leak"],
}

#: What `shadow` would have done, for calls that are counted as published.
SHADOW = {
    "shadow_joined": "would have been joined to a run under way",
    "shadow_cached": "would have been given a result",
    "shadow_stale": "would have been served an old result, and not refreshed it",
}

WORDS = (*DECISIONS, *EVENTS, *SHADOW)
