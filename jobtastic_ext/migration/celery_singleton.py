"""celery-singleton: ``base=Singleton``, its attributes and the settings ``singleton_…``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .found import (
    FOREVER,
    Found,
    base_of,
    either,
    is_based_on,
    place_of,
    settings_to_delete,
    significant,
)

NAME = "celery-singleton"

PREFIX = "singleton_"


def read(task: Any, conf: Mapping[str, Any]) -> Found | None:
    """Return what a task with its base class was told; None for every other task."""
    if not is_based_on(task, "celery_singleton", "Singleton"):
        return None
    fields: dict[str, Any] = {}
    remarks: list[str] = []
    if task.unique_on:
        unique_on = [task.unique_on] if isinstance(task.unique_on, str) else list(task.unique_on)
        fields.update(significant(task, unique_on, remarks))
    expiry = either(task.lock_expiry, conf.get(PREFIX + "lock_expiry"))
    if expiry is None:
        remarks.append("its lock had no end; a claim ends with its run, or with a worker that died")
    fields["herd_avoidance_timeout"] = FOREVER if expiry is None else expiry
    raises = either(task.raise_on_duplicate, conf.get(PREFIX + "raise_on_duplicate"))
    fields["on_duplicate"] = "raise" if raises else "join"
    overridden = [
        name
        for name in ("on_duplicate", "generate_lock", "release_lock")
        if getattr(type(task), name).__module__.partition(".")[0] != "celery_singleton"
    ]
    remarks += (f"{name}() of its own has no equal" for name in overridden)
    return Found(
        task=task.name,
        library=NAME,
        place=place_of(task),
        fields=fields,
        remarks=remarks,
        delete=f"{base_of(task, 'Singleton')}, unique_on=…, lock_expiry=…, raise_on_duplicate=…",
    )


def steps(conf: Mapping[str, Any]) -> list[str]:
    """Say what else there is to do, once all its tasks have a policy."""
    done = settings_to_delete(conf, PREFIX)
    done.append(
        "`except DuplicateTaskError` becomes `except jobtastic_ext.DuplicateCall` (`task_id` as "
        "before)"
    )
    done.append(
        "clear_locks(app) at the start of a worker is not needed: claims of dead workers end "
        "by themselves"
    )
    if conf.get(PREFIX + "backend_url"):
        done.append(
            "its locks were in singleton_backend_url; claims are in the result backend or the "
            "broker, or where the setting jobtastic_store says"
        )
    return done
