"""The policy file: YAML in, frozen policies out, and every mistake at once with its place."""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any, Literal

from msgspec import UNSET, Struct
from msgspec.structs import replace

from ..errors import Problem
from .document import Node, read_file, read_mapping
from .fields import FIELDS
from .in_time import IN_TIME, contradictions
from .model import TaskPolicy
from .problems import INLINE_SOURCE, NOWHERE, Place, Report, did_you_mean, quoted
from .together import EXCLUSIONS, NEEDS, OFF, Exclusion

MINIMAL = "`tasks: {reports.divide: {cache_duration: 1h}}`"


class _Section(Struct, frozen=True, kw_only=True):
    """The fields under ``defaults`` or under one task."""

    #: Of the key ``defaults``, or of the task's name.
    place: Place = NOWHERE
    values: dict[str, Any] = {}
    #: Of the field's key.
    places: dict[str, Place] = {}
    #: Of each argument in a field that lists some.
    items: dict[str, tuple[Place, ...]] = {}

    @property
    def unread(self) -> set[str]:
        """The fields whose value is a mistake, which is reported already."""
        return self.places.keys() - self.values.keys()


class PolicySet:
    """The policies of one file or mapping."""

    def __init__(
        self,
        source: str,
        policies: Mapping[str, TaskPolicy],
        tasks: Mapping[str, _Section],
        defaults: _Section,
    ) -> None:
        #: Path of the file as it was given, or ``"<jobtastic_policy>"``.
        self.source = source
        #: Every task name and glob, in the order of the file, and where it stands there.
        self.patterns: Mapping[str, Place] = MappingProxyType(
            {pattern: section.place for pattern, section in tasks.items()}
        )
        self._policies = policies
        self._tasks = tasks
        self._defaults = defaults
        self._globs = _globs(policies)
        self._cache: dict[str, TaskPolicy | None] = {}

    def for_task(self, name: str) -> TaskPolicy | None:
        """Give the policy of a task, or None where nothing matches.

        An exact name wins over a glob, a longer glob over a shorter, the first in the file over
        one of the same length.
        """
        try:
            return self._cache[name]
        except KeyError:
            policy = self._cache[name] = self._find(name)
            return policy

    def problem(
        self, name: str, field: str | None, message: str, *, index: int | None = None
    ) -> Problem:
        """Locate a message at a field of a policy, given by task name or by pattern.

        ``index`` points at one item of a list of arguments.  A field that the task leaves to
        ``defaults`` is located there, and one written nowhere at the task's name.
        """
        place = self._place(name, field, index)
        return Report(self.source).problem(place, message)

    def origin(self, pattern: str, field: str) -> Literal["task", "defaults", "silence"]:
        """Say who decides a field of the policy under this name or glob."""
        if field in self._tasks[pattern].values:
            return "task"
        return "defaults" if field in self._defaults.values else "silence"

    def _find(self, name: str) -> TaskPolicy | None:
        if name in self._policies:
            return self._policies[name]
        return next((policy for matches, policy in self._globs if matches(name)), None)

    def _place(self, name: str, field: str | None, index: int | None) -> Place:
        policy = self._policies.get(name) or self.for_task(name)
        if policy is None:
            return NOWHERE
        section = self._tasks[policy.pattern]
        if field is None:
            return section.place
        items = section.items.get(field, ())
        if index is not None and index < len(items):
            return items[index]
        inherited = self._defaults.places.get(field, section.place)
        return section.places.get(field, inherited)


def load_policy(
    source: str | os.PathLike[str] | Mapping[str, Any],
    *,
    further: Callable[[PolicySet], Iterable[Problem]] = lambda policies: (),
) -> PolicySet:
    """Read a policy file, or a mapping of the same shape.

    Converters that are dotted paths are imported.  `further` finds what only others know to be
    wrong, such as arguments that a task does not take.  Raises `PolicyError`, which holds every
    mistake with its line and column.
    """
    report = Report(INLINE_SOURCE)
    start = NOWHERE
    root: Node | None = None
    if isinstance(source, Mapping):
        root = read_mapping(source, report) if source else None
    elif isinstance(source, (str, os.PathLike)):
        report.source = os.fsdecode(source)
        start = Place(1, 1)
        root = read_file(source, report)
    else:
        kind = type(source).__name__
        report.stop(start, f"found an object of type `{kind}`, expected a path or a mapping")
    if root is None or root.kind == "nothing":
        report.stop(start, f"the policy is empty, expected at least {MINIMAL}")
    return _read_policy(root, report, further)


def no_policy(source: str) -> PolicySet:
    """Return what holds where nobody has written a policy: none for any task."""
    return PolicySet(source, {}, {}, _Section())


def is_glob(pattern: str) -> bool:
    return bool(re.search(r"[*?\[]", pattern))


def _globs(
    policies: Mapping[str, TaskPolicy],
) -> list[tuple[Callable[[str], object], TaskPolicy]]:
    globs = [policy for pattern, policy in policies.items() if is_glob(pattern)]
    globs.sort(key=lambda policy: len(policy.pattern), reverse=True)
    return [(re.compile(fnmatch.translate(glob.pattern)).match, glob) for glob in globs]


def _read_policy(
    root: Node, report: Report, further: Callable[[PolicySet], Iterable[Problem]]
) -> PolicySet:
    defaults, tasks = _Section(), dict[str, _Section]()
    if root.kind != "mapping":
        root.refuse(report, f"a mapping such as {MINIMAL}")
        report.raise_problems()
    for key, value in root.entries:
        if key.text == "defaults":
            defaults = _read_section(key, value, report, common=True)
        elif key.text == "tasks":
            tasks = _read_tasks(value, report)
        else:
            report.add(key.place, f"unknown key {quoted(key.text)}{_top_level_hint(key.text)}")
    if all(key.text != "tasks" for key, _ in root.entries):
        report.add(root.place, f"the key `tasks` is missing, expected at least {MINIMAL}")
    policies = {
        pattern: _checked(pattern, task, defaults, report) for pattern, task in tasks.items()
    }
    _check_defaults(tasks, defaults, report)
    found = PolicySet(report.source, policies, tasks, defaults)
    for problem in further(found):
        report.keep(problem)
    report.raise_problems()
    return found


def _top_level_hint(word: str) -> str:
    if word in FIELDS:
        return ", expected `defaults` or `tasks`; write it under one of these"
    if "." in word:
        return ", expected `defaults` or `tasks`; task names stand under `tasks`"
    return did_you_mean(word, ("defaults", "tasks")) or ", expected `defaults` or `tasks`"


def _read_tasks(node: Node, report: Report) -> dict[str, _Section]:
    if node.kind != "mapping":
        empty = "; for no task at all, write `tasks: {}`" if node.kind == "nothing" else ""
        node.refuse(report, f"a mapping of task names to their fields{empty}")
    tasks: dict[str, _Section] = {}
    for key, value in node.entries:
        if key.text in FIELDS and value.kind not in ("mapping", "nothing"):
            under = f"{quoted(key.text)} is a field: indent it under the name of its task"
            report.add(key.place, under)
            continue
        section = _read_section(key, value, report, common=False)
        tasks.setdefault(key.text, section)
        if not key.text:
            report.add(key.place, "found an empty name, expected a task name or a glob")
        elif not _is_glob_sound(key.text):
            report.add(
                key.place, f"the glob {quoted(key.text)} has a range in `[...]` that runs backwards"
            )
    return tasks


def _is_glob_sound(pattern: str) -> bool:
    try:
        re.compile(fnmatch.translate(pattern))
    except re.error:
        return False
    return True


def _read_section(key: Node, node: Node, report: Report, *, common: bool) -> _Section:
    """Read the fields under ``defaults`` (``common``) or under a task's name."""
    if node.kind not in ("mapping", "nothing"):
        node.refuse(report, "a mapping of fields, such as `{cache_duration: 1h}`")
    values: dict[str, Any] = {}
    places: dict[str, Place] = {}
    items: dict[str, tuple[Place, ...]] = {}
    for name, below in node.entries:
        field = FIELDS.get(name.text)
        if not field:
            _report_unknown(name, below, report, common=common)
        elif common and not field.common:
            report.add(name.place, f"`{name.text}` belongs to a task, not to `defaults`")
        else:
            places[name.text] = name.place
            value = field.read(below, report)
            if value is not UNSET:
                values[name.text] = value
            if below.items:
                items[name.text] = tuple(item.place for item in below.items)
    return _Section(place=key.place, values=values, places=places, items=items)


def _report_unknown(name: Node, below: Node, report: Report, *, common: bool) -> None:
    fields = [field.name for field in FIELDS.values() if field.common or not common]
    hint = did_you_mean(name.text, fields)
    if not hint and below.kind == "mapping":
        hint = "; task names are written in full, such as `reports.divide`"
    expected = "" if hint else f", expected one of: {', '.join(fields)}"
    report.add(name.place, f"unknown field {quoted(name.text)}{hint}{expected}")


def _checked(pattern: str, task: _Section, defaults: _Section, report: Report) -> TaskPolicy:
    """Merge the fields of a task, and report those that contradict each other."""
    policy = TaskPolicy(pattern=pattern, **{**defaults.values, **task.values})
    unread = task.unread | (defaults.unread - task.places.keys())
    if policy.cache_prefix is not None and is_glob(pattern):
        report.add(
            task.places["cache_prefix"],
            f"`cache_prefix` under the glob {quoted(pattern)} would make one call of all its tasks "
            "with the same arguments; write it under each task's own name",
        )
    for exclusion in EXCLUSIONS:
        if exclusion.holds(policy) and exclusion.field not in unread:
            _check_excluded(exclusion, policy, unread, task, defaults, report)
    for field, message in () if unread else contradictions(policy):
        # The task is what to change, also when it only inherits one of the two.
        where = [task.places[name] for name in (field, *IN_TIME) if name in task.places]
        report.add(where[0] if where else task.place, message)
    for field, (needed, why) in NEEDS.items():
        has_it = getattr(policy, needed) != OFF.get(needed)
        if has_it or getattr(policy, field) == FIELDS[field].default:
            continue
        if field not in task.places:
            policy = replace(policy, **{field: FIELDS[field].default})
        elif not unread & {field, needed}:
            report.add(task.places[field], f"`{field}` needs `{needed}`, {why}")
    return policy


def _check_excluded(
    exclusion: Exclusion,
    policy: TaskPolicy,
    unread: set[str],
    task: _Section,
    defaults: _Section,
    report: Report,
) -> None:
    ruling = exclusion.field
    for field, off in exclusion.fields.items():
        if field in unread or getattr(policy, field) == FIELDS[field].default:
            continue
        # The task is what to change, also when only one of the two stands there.
        places = {**defaults.places, **task.places}
        at = places[field if field in task.places else ruling]
        origin = "" if field in task.places else f", set {defaults.places[field]} in `defaults`,"
        report.add(
            at,
            f"`{exclusion.words}` {exclusion.why}: `{field}`{origin} must be {off}"
            f"{exclusion.instead}",
        )


def _check_defaults(tasks: Mapping[str, _Section], defaults: _Section, report: Report) -> None:
    """A task may inherit what it cannot use, but then some task must be able to."""
    sections = (defaults, *tasks.values())
    for field, (needed, why) in NEEDS.items():
        if defaults.values.get(field, FIELDS[field].default) == FIELDS[field].default:
            continue
        inherited, off = defaults.values.get(needed, FIELDS[needed].default), OFF.get(needed)
        found = [task.values.get(needed, inherited) for task in tasks.values()] or [inherited]
        used = any(value != off for value in found)
        if not used and not any(needed in section.unread for section in sections):
            report.add(defaults.places[field], f"`{field}` needs `{needed}`, {why}")
