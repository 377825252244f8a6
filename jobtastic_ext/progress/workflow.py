"""One percent and one time remaining for a whole workflow: `progress_of(result)`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from celery import Celery, states
from celery.result import EagerResult, ResultSet
from msgspec import Struct

from ..errors import ConfigurationError, ResultsUnavailable
from ..estimates.estimator import History, estimate
from ..results.backend import Backend
from ..results.payloads import decode
from ..results.reader import reads_of
from ..results.result_objects import NAME
from ..results.state_writer import PROGRESS
from .histories import Histories

#: The attribute of a result that holds what earlier polls have seen of its workflow.
SEEN = "jobtastic_seen"

#: The attribute of a result that holds the highest percent of its workflow so far.
SEEN_PERCENT = "jobtastic_seen_percent"

#: How a success begins in JSON, so that most results need not be decoded.
SUCCESS = b'{"status": "SUCCESS",'

#: Seconds that the result backend may take.
TIMEOUT = 2.0


class Overview(Struct, frozen=True, kw_only=True):
    """How far a workflow is."""

    #: 0 to 100, every task weighted by its duration; never falling for one result object.
    progress_percent: float
    #: Seconds; -1 while nothing is known.
    time_remaining: float
    #: Tasks that have ended, however; all tasks; and those that have failed or were revoked.
    completed: int
    total: int
    failed: int


class Leaf(Struct):
    """One task of a workflow, as far as it is known."""

    id: str
    name: str | None = None
    ended: bool = False
    failed: bool = False
    running: bool = False
    #: 0 to 1.
    part: float = 0.0
    #: Seconds that it takes in all, and that it still takes; None while nobody knows.
    length: float | None = None
    left: float | None = None


class Stage(Struct):
    """Results one after the other, each of them a task or a set of such stages side by side."""

    steps: list[Leaf | list[Stage]]


def lay_out(result: Any, leaves: dict[str, Leaf], seen: dict[str, Leaf]) -> Stage:
    """Return the stages of a workflow, and put its tasks into `leaves`, each of them once."""
    path = []
    node = result
    while node is not None and node.id not in leaves:
        path.append(node)
        if not isinstance(node, ResultSet):
            leaves[node.id] = leaf_of(node, seen)
        node = node.parent
    steps: list[Leaf | list[Stage]] = []
    for node in reversed(path):
        if isinstance(node, ResultSet):
            steps.append([lay_out(child, leaves, seen) for child in node.results])
        else:
            steps.append(leaves[node.id])
    return Stage(steps)


def leaf_of(result: Any, seen: dict[str, Leaf]) -> Leaf:
    leaf = seen.get(result.id) or Leaf(result.id)
    leaf.name = leaf.name or getattr(result, NAME, None)
    if isinstance(result, EagerResult):
        leaf.ended, leaf.part = True, 1.0
        leaf.failed = result.state != states.SUCCESS
    return leaf


def read_states(app: Celery, backend: Backend | None, leaves: list[Leaf]) -> None:
    """Ask the backend about all of them, at once if it can."""
    if not leaves:
        return
    reads, ids = reads_of(app), [leaf.id for leaf in leaves]
    try:
        reads.check()
    except ConfigurationError as error:
        raise ResultsUnavailable(str(error)) from error
    found = reads.payloads(ids, TIMEOUT) if backend is None else backend.read_many(ids)
    for leaf, payload in zip(leaves, found, strict=True):
        if payload is None:
            continue
        raw = payload.encode() if isinstance(payload, str) else payload
        if isinstance(raw, bytes) and raw.startswith(SUCCESS):
            take(leaf, states.SUCCESS, None)
            continue
        try:
            meta = decode(reads.backend(), payload, leaf.id)
        except Exception as error:
            raise ResultsUnavailable(f"cannot read how far task {leaf.id} is: {error}") from error
        take(leaf, meta["status"], meta.get("result"))


def take(leaf: Leaf, state: str, meta: Any) -> None:
    """Take in what the backend holds of one task."""
    leaf.running = False
    if state in states.READY_STATES:
        leaf.ended, leaf.part, leaf.left = True, 1.0, 0.0
        leaf.failed = state != states.SUCCESS
    elif state == PROGRESS and isinstance(meta, dict):
        leaf.running = True
        leaf.part = number(meta.get("progress_percent"), 0.0) / 100
        left = number(meta.get("time_remaining"), -1.0)
        leaf.left = None
        if left >= 0:
            leaf.left = left
            leaf.length = left + number(meta.get("elapsed"), 0.0)
    elif state == states.STARTED:
        leaf.running = True


def number(value: Any, otherwise: float) -> float:
    return float(value) if isinstance(value, int | float) else otherwise


def typical_lengths(histories: Histories, tasks: Iterable[str]) -> dict[str, float]:
    """Return the seconds that a run of each task takes, of those of which a run has succeeded."""
    names = {task: histories.name(task) for task in tasks}
    learned = histories.load_many(names.values())
    known = {task: learned[key].history for task, key in names.items()}
    return {
        task: estimate(history, [(0.0, 0.0)]).seconds
        for task, history in known.items()
        if history != History()
    }


def learn_lengths(histories: Histories, leaves: Iterable[Leaf]) -> None:
    """Let past runs say how long those take that do not say it themselves."""
    unknown = [leaf for leaf in leaves if leaf.length is None and leaf.name is not None]
    lengths = typical_lengths(histories, {leaf.name for leaf in unknown if leaf.name})
    for leaf in unknown:
        leaf.length = lengths.get(leaf.name or "")


def sum_up(result: Any, whole: Stage, leaves: list[Leaf]) -> Overview:
    known = [leaf.length for leaf in leaves if leaf.length is not None]
    usual = sum(known) / len(known) if known else None
    weights = [weight(leaf, usual) for leaf in leaves]
    total = sum(weights)
    if total > 0:
        part = sum(w * leaf.part for w, leaf in zip(weights, leaves, strict=True)) / total
    else:
        part = sum(leaf.part for leaf in leaves) / len(leaves) if leaves else 1.0
    percent = max(100 * min(part, 1.0), getattr(result, SEEN_PERCENT, 0.0))
    setattr(result, SEEN_PERCENT, percent)
    ended = sum(leaf.ended for leaf in leaves)
    left = 0.0 if ended == len(leaves) else time_left(whole, usual)
    return Overview(
        progress_percent=percent,
        time_remaining=-1 if left is None else round(left, 3),
        completed=ended,
        total=len(leaves),
        failed=sum(leaf.failed for leaf in leaves),
    )


def weight(leaf: Leaf, usual: float | None) -> float:
    if usual is None:
        return 1.0
    return usual if leaf.length is None else leaf.length


def time_left(stage: Stage, usual: float | None) -> float | None:
    """Return how long the steps of a stage still take, one after the other."""
    total = 0.0
    for step in stage.steps:
        left = leaf_left(step, usual) if isinstance(step, Leaf) else side_by_side(step, usual)
        if left is None:
            return None
        total += left
    return total


def leaf_left(leaf: Leaf, usual: float | None) -> float | None:
    if leaf.ended:
        return 0.0
    if leaf.left is not None:
        return leaf.left
    length = usual if leaf.length is None else leaf.length
    return None if length is None else length * (1 - leaf.part)


def side_by_side(stages: list[Stage], usual: float | None) -> float | None:
    """Return how long stages take that share the slots which the running ones show.

    Before any of them runs, all are taken to begin at once.
    """
    lefts = []
    for stage in stages:
        left = time_left(stage, usual)
        if left is None:
            return None
        lefts.append(left)
    running = sum(any(leaf.running for leaf in leaves_of(stage)) for stage in stages)
    if not running:
        begun = any(leaf.ended for stage in stages for leaf in leaves_of(stage))
        running = 1 if begun else len(stages)
    return max([sum(lefts) / max(running, 1), *lefts], default=0.0)


def leaves_of(stage: Stage) -> Iterator[Leaf]:
    for step in stage.steps:
        if isinstance(step, Leaf):
            yield step
        else:
            for inner in step:
                yield from leaves_of(inner)
