"""A message takes one token of its task's rate limit, however often it comes back to wait.

Celery's consumer looks its task's token bucket up for each delivery, right after it has told of it
(`task_received`), in the same thread.  So the bucket is taken away for a message that has had its
token, and is back for the next one.
"""

from __future__ import annotations

from typing import Any


class RateLimits:
    """The buckets of one worker's consumer that are taken away at the moment, by task name."""

    def __init__(self) -> None:
        self._away: dict[str, Any] = {}

    def pass_by(self, task: Any, consumer: Any, *, waited: bool) -> None:
        """Let the delivery that is being told of pass by its limit, if the message has `waited`."""
        buckets = getattr(consumer, "task_buckets", None)
        if buckets is None:
            return
        bucket = buckets.get(task.name)
        if waited and bucket is not None:
            self._away[task.name], buckets[task.name] = bucket, None
        elif not waited and task.name in self._away:
            taken = self._away.pop(task.name)
            if bucket is None and task.rate_limit:  # `celery control rate_limit` makes a new one
                buckets[task.name] = taken
