"""Everything that an app, or the source of one, was told by the libraries that are known here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct

from . import celery_heimdall, celery_once, celery_singleton, jobtastic
from .found import Found
from .source import Unread, read_folder

LIBRARIES = (celery_once, celery_singleton, celery_heimdall, jobtastic)

#: What gives an app the policy that was written.
THE_STEP = 'add `app.steps["worker"].add(JobtasticStep)`, from jobtastic_ext, where the app is made'


class Collected(Struct, kw_only=True):
    """What was found, in the order of the tasks' names, and what there is left to do."""

    found: list[Found]
    unread: list[Unread]
    #: What is to be deleted and changed, a sentence each, in an order that can be followed.
    steps: list[str]

    @property
    def told(self) -> list[Found]:
        """The tasks for which there is a policy."""
        return [each for each in self.found if each.fields]


def collect(
    tasks: Iterable[Any], conf: Mapping[str, Any], *, folder: Path | None, has_step: bool
) -> Collected:
    """Read tasks that are there and, of a folder, the source of those that cannot be imported."""
    found = [read_task(task, conf) for task in tasks]
    unread: list[Unread] = []
    if folder is not None:
        of_source, unread = read_folder(folder)
        found += of_source
    known = sorted(filter(None, found), key=lambda each: each.task)
    steps = [] if has_step or not known else [THE_STEP]
    steps += (
        f"delete {each.delete} of {each.task} ({each.place})"
        for each in known
        if each.fields and each.delete
    )
    for library in LIBRARIES:
        of_it = [each for each in known if each.library == library.NAME]
        if of_it:
            steps += library.steps(conf)
        if of_it and all(each.fields for each in of_it):
            steps.append(f"pip uninstall {library.NAME}")
    return Collected(found=known, unread=unread, steps=steps)


def still_locked(tasks: Iterable[Any], conf: Mapping[str, Any]) -> Iterator[str]:
    """Say of which tasks with a policy another library has the locks as well."""
    for task in tasks:
        found = read_task(task, conf)
        if found is not None and not found.stays:
            yield (
                f"{task.name} still has {found.library}'s base class, so both locks hold: delete "
                f"{found.delete} ({found.place or 'its place is not known'})"
            )


def read_task(task: Any, conf: Mapping[str, Any]) -> Found | None:
    """Return what the first library whose base class a task has told it."""
    return next(filter(None, (library.read(task, conf) for library in LIBRARIES)), None)
