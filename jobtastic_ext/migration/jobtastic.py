"""jobtastic: attributes of a class, of a task that is there or (see `source`) of its source."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from .found import FOREVER, Found, argument, is_based_on, place_of

NAME = "jobtastic"

#: What it reads of a class.
ATTRIBUTES = (
    "significant_kwargs",
    "herd_avoidance_timeout",
    "cache_duration",
    "cache_prefix",
    "memleak_threshold",
)

#: Methods that people replace.
REPLACED = {
    "_get_cache_key": "a key of its own: name the arguments in significant_kwargs instead",
    "warn_of_memory_leak": "is called as before, with bytes",
    "delay_or_run": "is gone: call delay_or_eager",
}


def read(task: Any, conf: Mapping[str, Any]) -> Found | None:
    """Return what a task with its base class, ported to this Celery, was told; else None."""
    if not is_based_on(task, "jobtastic", "JobtasticTask"):
        return None
    told = {name: getattr(task, name) for name in ATTRIBUTES if hasattr(task, name)}
    remarks: list[str] = []
    fields = fields_of(told, lambda name, converter: argument(name, converter, remarks), remarks)
    return Found(
        task=task.name,
        library=NAME,
        place=place_of(task),
        fields=fields,
        remarks=remarks,
        delete=", ".join(told),
    )


def fields_of(
    told: Mapping[str, Any], argument: Callable[[str, Any], Any], remarks: list[str]
) -> dict[str, Any]:
    """Return the fields of a policy for what a class says; adds to `remarks`."""
    fields: dict[str, Any] = {}
    if "significant_kwargs" in told:
        fields["significant_kwargs"] = [argument(*pair) for pair in told["significant_kwargs"]]
    if "herd_avoidance_timeout" in told:
        fields["herd_avoidance_timeout"] = told["herd_avoidance_timeout"]
    duration = told.get("cache_duration", -1)
    if duration == 0:
        remarks.append("cache_duration 0 meant what the cache made of it; here it has no end")
    if duration >= 0:
        fields["cache_duration"] = duration or FOREVER
    if "cache_prefix" in told:
        fields["cache_prefix"] = told["cache_prefix"]
    threshold = int(told.get("memleak_threshold", -1))
    if threshold >= 0:
        fields["memleak_threshold"] = threshold
    return fields


def steps(conf: Mapping[str, Any]) -> list[str]:
    """Say what else there is to do, once all its tasks have a policy."""
    done = [
        "`from jobtastic import JobtasticTask` becomes `from celery import Task`, the base class "
        "`Task`, and `calculate_result` `run`",
        "a class is registered: `lots = app.register_task(LotsOfDivisionTask())`, and what was "
        "called on the class is called on the task: `lots.delay_or_fail(…)`",
        "`delay_or_run(…)` becomes `delay_or_eager(…)`",
    ]
    if conf.get("JOBTASTIC_CACHE"):
        done.append("delete the setting JOBTASTIC_CACHE; claims are where jobtastic_store says")
    return done
