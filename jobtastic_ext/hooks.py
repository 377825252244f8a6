"""What a feature is told of each run in a worker, and what a request carries of ours."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from typing import Any, Literal

from celery.app.task import Context, Task
from msgspec import Struct

logger = logging.getLogger("jobtastic_ext")

#: The attribute of a request that holds its `RunState`.
STATE = "jobtastic_run"


class RunState(Struct):
    """What a request carries of ours; each feature writes its own field."""

    #: Whether the body has been reached, or left out: its message waits, or shares an outcome.
    body: Literal["not reached", "reached", "left out"] = "not reached"
    #: The `claims.claimed_run.Run` whose claim is still to be let go of.
    claim: Any = None
    #: The `progress.run_progress.Progress` of the run.
    progress: Any = None
    #: The `memory.watch.Begun` of the run, if it is watched.
    memory: Any = None
    #: Of a `map` or `starmap`: the values of its distinct items, by their call key.
    items: dict[str, Any] | None = None


def state_of(request: Context) -> RunState:
    """Return what a request carries of ours, from now on if it has been nothing so far."""
    state = request.__dict__.get(STATE)
    if not isinstance(state, RunState):  # a header of the message may be called so
        state = request.__dict__[STATE] = RunState()
    return state


class Entered(Struct):
    """A policy task whose body is about to be entered."""

    task: Task
    request: Context
    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    #: The key of the call; empty for one that has none.
    key: str


class RunHooks:
    """What a feature does at the turns of a run; nothing, where it does not say.

    The runtime holds one of each feature that is on, in the order in which they are told.
    """

    def on_prerun(self, task: Task) -> None:
        """A task is about to run in this thread."""

    def around_body(self, entered: Entered) -> AbstractContextManager[None]:
        """Return what surrounds the body of a policy task, once it is known to run."""
        return nullcontext()

    def on_success(self, task: Task) -> None:
        """The run has succeeded, and its result is stored."""

    def on_postrun(
        self, task: Task, state: str | None, retval: Any, args: Any, kwargs: Any
    ) -> None:
        """The task is over, however it ended."""


def around_body(hooks: Iterable[RunHooks], entered: Entered) -> AbstractContextManager[Any]:
    """Return what surrounds a body: the first of the hooks is outermost."""
    with ExitStack() as stack:
        for one in hooks:
            stack.enter_context(one.around_body(entered))
        return stack.pop_all()


def tell_all(hooks: Iterable[RunHooks], turn: Callable[..., None], task: Task, *what: Any) -> None:
    """Tell each of the hooks of a turn, `RunHooks.on_prerun` say, whatever the others raise."""
    for one in hooks:
        try:
            getattr(one, turn.__name__)(task, *what)
        except Exception:
            logger.exception("%s: %s failed; the task goes on", task.name, type(one).__name__)
