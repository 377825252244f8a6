"""The one list of words for what is decided: in logs, signals, metrics, commands and docs."""

from __future__ import annotations

from msgspec import Struct


class Word(Struct, frozen=True):
    """A word, and the signal of `jobtastic_ext.signals` that tells of it."""

    word: str
    signal: str
    meaning: str


#: What becomes of a call: what `result.decision` says, or an exception.  Each call has one.
CALLS = (
    Word("published", "call_published", "no identical call was under way: a message was sent"),
    Word("joined", "call_joined", "an identical call was queued or running: its run is shared"),
    Word("cached", "call_cached", "an identical call had ended: its result was returned"),
    Word("stale", "call_stale", "the old result was returned; it is, or has been, refreshed"),
    Word("refreshed", "call_refreshed", "the caller asked for a new run (`refresh=True`)"),
    Word("buffered", "call_buffered", "it runs once more after the run that was under way"),
    Word("debounced", "call_debounced", "it shares the run that begins when no more calls come"),
    Word("fallback", "call_fallback", "it could not be sent: it ran at its caller, or has failed"),
    Word("refused", "call_refused", "an identical call was under way: `DuplicateCall` was raised"),
)

#: What becomes of a message that a worker has in hand.  Each delivery has one.
MESSAGES = (
    Word("started", "run_started", "its task runs"),
    Word("reused", "run_reused", "it ends with the outcome of another run"),
    Word("waits", "run_waits", "an identical call is running: the message waits in the broker"),
    Word("dropped", "run_dropped", "a late copy, one that was given up, or a needless duplicate"),
    Word("refused", "run_refused", "an identical call is running: it fails with `DuplicateCall`"),
)

#: How a run ends.  Each run that has started has one, if its process lives.
OUTCOMES = (
    Word("succeeded", "run_ended", "the task has returned"),
    Word("failed", "run_ended", "the task has raised"),
    Word("retried", "run_ended", "the task has asked for a retry"),
    Word("rejected", "run_ended", "the task has raised `Ignore` or `Reject`"),
    Word("killed", "run_ended", "its process was told to end in the middle of it"),
)

#: What happens beside.
EVENTS = (
    Word("observed", "call_observed", "in `shadow`: what would have become of the call"),
    Word("taken over", "call_taken_over", "sent again under the id of what was lost"),
    Word("lost", "run_lost", "the process that ran it is gone: the worker has let go of its claim"),
    Word("freed by lease", "run_freed", "a run that never ended lost its call to another"),
    Word("broker failed", "broker_failed", "a message could not be sent"),
    Word("store failed", "store_failed", "the store of claims did not answer"),
    Word("leak", "memory_leak_detected", "a run has grown its process, or memory grows with runs"),
)
