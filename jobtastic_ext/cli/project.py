"""The project that a command is asked about."""

from __future__ import annotations

import json
import traceback
from typing import Any

import click
from celery import Celery

from ..errors import ConfigurationError, PolicyError
from ..policy.model import Plan
from ..policy.problems import did_you_mean
from ..runtime import Runtime, all_mistakes, runtime_of
from ..settings import misspelt, switched_off

#: What JSON calls them.
KINDS: dict[type, str] = {
    list: "a list, such as '[\"a\", 1]'",
    dict: "an object, such as '{\"x\": 1}'",
}


def load_app(context: click.Context) -> Celery:
    """Return the app, all of whose tasks are there as in a worker."""
    app: Celery = context.obj.app
    try:
        # As a worker does it: `include`, `imports`, and what `autodiscover_tasks` waits for.
        app.loader.import_default_modules()
    except Exception as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        raise click.ClickException(
            f"the modules of the project's tasks cannot be imported: {type(error).__name__}: "
            f"{error} ({frame.filename}:{frame.lineno})"
        ) from error
    app.finalize()
    return app


def load(context: click.Context) -> Runtime:
    """Return the runtime of the app."""
    app = load_app(context)
    try:
        runtime = runtime_of(app)
    except PolicyError as error:
        words = str(PolicyError(all_mistakes(app) or error.problems))
        raise click.ClickException("\n".join([*misspelt(app.conf), words])) from error
    except ConfigurationError as error:
        raise click.ClickException("\n".join([*misspelt(app.conf), str(error)])) from error
    if runtime is None and (cause := switched_off(app.conf)):
        raise click.ClickException(f"{cause}: nothing is decided, Celery does everything")
    if runtime is None and app.conf.task_always_eager:
        raise click.ClickException("task_always_eager is set: nothing is ever sent or shared")
    if runtime is None:
        raise click.ClickException(
            'this app is not enabled; add app.steps["worker"].add(JobtasticStep)'
        )
    return runtime


def plans_of(runtime: Runtime) -> dict[str, Plan]:
    try:
        return runtime.plans()
    except ConfigurationError as error:  # of a task that came after the policy was read
        raise click.ClickException(str(error)) from error


def plan_of(runtime: Runtime, name: str) -> Plan:
    plans = plans_of(runtime)
    if name in plans:
        return plans[name]
    if name not in runtime.app.tasks:
        near = did_you_mean(name, runtime.app.tasks)
        raise click.ClickException(f"there is no task `{name}` in this app{near}")
    meant = f"; there is one for {', '.join(plans)}" if 0 < len(plans) <= 20 else ""
    raise click.ClickException(f"no policy is meant for {name}{meant}")


def given(text: str | None, option: str, kind: type) -> Any:
    """Read an option that is JSON.  Raises ValueError that names the option."""
    try:
        found = kind() if text is None else json.loads(text)
    except ValueError as error:
        raise ValueError(f"{option} is not JSON: {error}") from error
    if not isinstance(found, kind):
        raise ValueError(f"{option} is {text}; expected {KINDS[kind]}")
    return found
