"""celery-heimdall: ``base=HeimdallTask``, ``heimdall={…}`` and the settings ``heimdall_…``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .found import Found, base_of, either, is_based_on, place_of, settings_to_delete, without_equal

NAME = "celery-heimdall"

PREFIX = "heimdall_"

#: How long its lock holds where nothing else is said, in seconds.
TIMEOUT = 60 * 60

#: Options of its lock that mean nothing where no lock is waited for.
OF_ITS_LOCK = ("unique_lock_timeout", "unique_lock_blocking", "lock_prefix", "rate_limit_prefix")
RATES = ("rate_limit", "times", "per")
KNOWN = ("unique", "unique_timeout", "unique_raises", "unique_wait_for_expiry", "key")


def read(task: Any, conf: Mapping[str, Any]) -> Found | None:
    """Return what a task with its base class was told; None for every other task."""
    if not is_based_on(task, "celery_heimdall", "HeimdallTask"):
        return None
    told: Mapping[str, Any] = getattr(task, "heimdall", {})
    found = Found(
        task=task.name,
        library=NAME,
        place=place_of(task),
        delete=f"{base_of(task, 'HeimdallTask')}, heimdall={{…}}",
    )
    if any(name in told for name in RATES):
        found.remarks.append(
            "its rate limit for all workers together has no equal; Celery's own rate_limit is for "
            "each worker"
        )
        found.delete = "nothing yet: it still limits the rate"
        found.stays = True
    found.remarks += without_equal(told, (*KNOWN, *OF_ITS_LOCK, *RATES))
    if "unique" not in told:
        return found
    fields = found.fields
    key = told.get("key")
    if isinstance(key, str):
        fields["significant_kwargs"] = []
        fields["cache_prefix"] = key
    elif key is not None:
        found.remarks.append(
            "its key was computed; name in significant_kwargs the arguments that it looked at"
        )
    timeout = either(told.get("unique_timeout"), conf.get(PREFIX + "unique_timeout"), TIMEOUT)
    fields["herd_avoidance_timeout"] = timeout
    raises = either(told.get("unique_raises"), conf.get(PREFIX + "unique_raises"), False)
    fields["on_duplicate"] = "raise" if raises else "join"
    if told.get("unique_wait_for_expiry"):
        fields["unique_for"] = timeout
    return found


def steps(conf: Mapping[str, Any]) -> list[str]:
    """Say what else there is to do, once all its tasks have a policy."""
    done = settings_to_delete(conf, PREFIX)
    done.append(
        "`except AlreadyQueuedError` becomes `except jobtastic_ext.DuplicateCall` (`task_id` is "
        "what was `likely_culprit`; there is no `expires_in`)"
    )
    done.append("self.only_after(…) has no equal; a task of its own with `unique_for` has its use")
    return done
