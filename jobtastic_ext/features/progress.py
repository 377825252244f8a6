"""Progress of a run, written to its result backend."""

from __future__ import annotations

import logging
import time
from typing import Any

__all__ = ("update_progress",)

logger = logging.getLogger("jobtastic_ext")

#: The attribute of a request that holds when its progress began.
BEGUN = "jobtastic_progress_begun"


def update_progress(
    self: Any, completed_count: float, total_count: float, update_frequency: int = 1
) -> None:
    """Record that `completed_count` of `total_count` is done, every `update_frequency` counts.

    The state becomes ``PROGRESS`` with ``{"progress_percent": 0..100, "time_remaining": seconds}``;
    the time is -1 while nothing is known.  Nothing is written for a direct or eager call or for an
    ignored result, and a backend that cannot be reached never fails the task.
    """
    request = self.request
    if request.called_directly or request.is_eager or self.ignore_result or not request.id:
        return
    begun = request.__dict__.setdefault(BEGUN, time.monotonic())
    skips = update_frequency > 0 and completed_count % update_frequency
    if skips and completed_count < total_count:
        return
    share = min(max(completed_count / total_count, 0.0), 1.0) if total_count > 0 else 1.0
    elapsed = time.monotonic() - begun
    remaining = elapsed * (1 - share) / share if share and elapsed else -1
    meta = {"progress_percent": 100 * share, "time_remaining": remaining}
    try:
        self.backend.store_result(request.id, meta, "PROGRESS", request=request)
    except Exception as error:  # noqa: BLE001 - a progress report never fails a task
        logger.warning("%s[%s] progress not recorded: %r", self.name, request.id, error)
