"""The one line: a worker bootstep whose presence enables producers, too."""

from __future__ import annotations

import logging
from typing import Any

import click
from celery import Celery, bootsteps

from ..errors import ConfigurationError, PolicyError
from ..runtime import Runtime, all_mistakes, runtime_of
from ..settings import switched_off
from ..worker.identity import new_worker_token
from ..worker.wrapping import wrap_tasks
from . import handlers, inspect_memory
from .patch import install

#: Imported for the command that it adds to ``celery inspect``.
INSPECT = inspect_memory.jobtastic_memory

logger = logging.getLogger("jobtastic_ext")


class JobtasticStep(bootsteps.Step):  # type: ignore[misc]
    """Enable jobtastic_ext for an app: ``app.steps["worker"].add(JobtasticStep)``.

    In a worker it checks the policy (an invalid one keeps the worker from starting), wraps the
    policy tasks before the pool forks, and keeps the claims of what runs there.
    """

    #: By this a producer finds that its app is enabled.
    enables_jobtastic = True

    def __init__(self, parent: Any, **kwargs: Any) -> None:
        super().__init__(parent, **kwargs)
        install()
        handlers.connect()
        new_worker_token(str(getattr(parent, "hostname", "") or ""))
        cause = switched_off(parent.app.conf)
        runtime = checked_runtime(parent.app)
        if cause:
            logger.warning("jobtastic is switched off by %s: Celery does everything", cause)
        if runtime is None:
            return  # or task_always_eager: nothing is ever sent
        for warning in runtime.warnings():
            runtime.tell_once(warning, "%s", warning)
        logger.info("jobtastic: %s", runtime.summary())
        wrap_tasks(runtime.deliveries)
        runtime.share_counts(parent)
        if runtime.watch_memory(parent):
            handlers.connect(handlers.MEMORY)


def checked_runtime(app: Celery) -> Runtime | None:
    """Return the app's runtime; a worker that was started by a command ends with the message alone.

    Raises `ConfigurationError` in a worker that a program has started.
    """
    try:
        return runtime_of(app)
    except ConfigurationError as error:
        if click.get_current_context(silent=True) is None:
            raise
        mistakes = all_mistakes(app) if isinstance(error, PolicyError) else []
        raise click.ClickException(str(PolicyError(mistakes) if mistakes else error)) from error
