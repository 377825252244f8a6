"""celery-once: ``base=QueueOnce``, ``once={…}`` and the setting ``ONCE``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .found import Found, base_of, is_based_on, place_of, significant, without_equal

NAME = "celery-once"

#: How long its lock holds where nothing else is said, in seconds.
TIMEOUT = 60 * 60


def read(task: Any, conf: Mapping[str, Any]) -> Found | None:
    """Return what a task with its base class was told; None for every other task."""
    if not is_based_on(task, "celery_once", "QueueOnce"):
        return None
    once: Mapping[str, Any] = task.once
    fields: dict[str, Any] = {}
    remarks: list[str] = []
    if once.get("keys") is not None:
        fields.update(significant(task, once["keys"], remarks))
    fields["herd_avoidance_timeout"] = once.get("timeout", default_timeout(conf))
    if once.get("graceful"):
        fields["on_duplicate"] = "join"
        remarks.append("a duplicate gets the other call's AsyncResult, no longer one of None")
    else:
        fields["on_duplicate"] = "raise"
    if once.get("unlock_before_run"):
        fields["unique_until"] = "start"
    remarks += without_equal(once, ("graceful", "keys", "timeout", "unlock_before_run"))
    return Found(
        task=task.name,
        library=NAME,
        place=place_of(task),
        fields=fields,
        remarks=remarks,
        delete=f"{base_of(task, 'QueueOnce')}, once={{…}}",
    )


def settings_of(conf: Mapping[str, Any]) -> Mapping[str, Any]:
    once: Mapping[str, Any] = conf.get("ONCE") or {}
    return once.get("settings") or {}


def default_timeout(conf: Mapping[str, Any]) -> Any:
    return settings_of(conf).get("default_timeout", TIMEOUT)


def steps(conf: Mapping[str, Any]) -> list[str]:
    """Say what else there is to do, once all its tasks have a policy."""
    settings = settings_of(conf)
    done = [
        "delete the setting ONCE (grep -rn ONCE . finds it)",
        "`except AlreadyQueued` becomes `except jobtastic_ext.DuplicateCall` (its `task_id` is the "
        "other call's; it knows no `countdown`)",
        "calls with once={…} (grep -rn 'once=' . finds them): a policy is for all calls of a task; "
        "drop the option",
    ]
    if settings.get("url"):
        done.append(
            "its locks were in the Redis of ONCE; claims are in the result backend's or the "
            "broker's, or where the setting jobtastic_store says"
        )
    if settings.get("location"):
        done.append(
            "its locks were files; if neither broker nor results are in Redis, set "
            "jobtastic_store='sqlite:////path/of/a/file' for one machine"
        )
    if settings.get("blocking"):
        done.append("blocking=True has no equal: no call waits for another one to end")
    return done
