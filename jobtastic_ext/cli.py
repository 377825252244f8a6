"""``celery -A proj jobtastic …``: look at a project's policy, and at what it makes of a call."""

from __future__ import annotations

import json
from typing import Any

import click
from celery import Celery

from .errors import ConfigurationError, StoreError
from .plans import Plan
from .policy.fields import policy_schema
from .runtime import Runtime, runtime_of

__all__ = ("jobtastic",)


@click.group()
def jobtastic() -> None:
    """Check the jobtastic policy, and explain what it does to a call."""


@jobtastic.command()
@click.pass_context
def check(context: click.Context) -> None:
    """Check settings and policy against the tasks of the app; exit status 1 if one is wrong."""
    runtime = load(context)
    for warning in runtime.warnings():
        click.echo(f"warning: {warning}")
    names = [name for name in sorted(runtime.app.tasks) if plan_of(runtime, name) is not None]
    click.echo(f"{runtime.policies.source}: fine, for {len(names)} of the app's tasks")
    for name in names:
        click.echo(f"  {name}")


@jobtastic.command()
@click.argument("task")
@click.option("--args", "arguments", default="[]", help="Positional arguments, a JSON list.")
@click.option("--kwargs", default="{}", help="Keyword arguments, a JSON object.")
@click.pass_context
def explain(context: click.Context, task: str, arguments: str, kwargs: str) -> None:
    """Tell the policy of TASK, the key of a call, and what the store holds under it."""
    runtime = load(context)
    plan = plan_of(runtime, task)
    if plan is None:
        raise click.ClickException(f"no policy is meant for {task}")
    for name in plan.policy.__struct_fields__:
        click.echo(f"{name}: {getattr(plan.policy, name)}")
    try:
        key = plan.key(json.loads(arguments), json.loads(kwargs))
        claim = runtime.store.read(key)
    except (TypeError, ValueError, StoreError) as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"key: {key}")
    for part in ("holder", "value"):
        click.echo(f"{part}: {getattr(claim, part, None)}")


@jobtastic.command()
def schema() -> None:
    """Print a JSON Schema of the policy file, for editors."""
    click.echo(json.dumps(policy_schema(), indent=2))


def load(context: click.Context) -> Runtime:
    app: Celery = context.obj.app
    app.finalize()
    try:
        runtime = runtime_of(app)
    except ConfigurationError as error:
        raise click.ClickException(str(error)) from error
    if runtime is None and app.conf.task_always_eager:
        raise click.ClickException("task_always_eager is set: nothing is ever sent or shared")
    if runtime is None:
        raise click.ClickException(
            'this app is not enabled; add app.steps["worker"].add(JobtasticStep)'
        )
    return runtime


def plan_of(runtime: Runtime, name: str) -> Plan | None:
    task: Any = runtime.app.tasks.get(name)
    return runtime.plan(task) if task is not None else None
