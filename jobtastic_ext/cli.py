"""``celery -A proj jobtastic …``: look at a project's policy, and at what it makes of a call."""

from __future__ import annotations

import json
import traceback
from typing import Any

import click
from celery import Celery

from .celery_internals import custom_headers
from .errors import ArgumentUnknown, ConfigurationError, StoreError
from .policy import differences
from .policy.fields import policy_schema
from .policy.model import Plan
from .policy.problems import did_you_mean
from .runtime import Runtime, runtime_of
from .settings import misspelt

__all__ = ("jobtastic",)

#: What JSON calls them.
KINDS: dict[type, str] = {
    list: "a list, such as '[\"a\", 1]'",
    dict: "an object, such as '{\"x\": 1}'",
}


@click.group()
def jobtastic() -> None:
    """Check the jobtastic policy, and explain what it does to a call."""


@jobtastic.command()
@click.pass_context
def check(context: click.Context) -> None:
    """Check settings and policy against the tasks of the app; exit status 1 if one is wrong.

    A setting that nobody reads and a name that no task fits are wrong, too.
    """
    runtime = load(context)
    plans = plans_of(runtime)
    surprises = runtime.warnings()
    for surprise in surprises:
        click.echo(surprise, err=True)
    word = " holds" if surprises else ": fine,"
    click.echo(f"{runtime.policies.source}{word} for {len(plans)} of the app's tasks")
    for name, plan in plans.items():
        click.echo(f"  {name}")
        click.echo(f"    told apart by {differences.told_apart(plan)}")
        for warning in differences.warnings(name, plans):
            click.echo(f"    warning: {warning}")
    if surprises:
        context.exit(1)


@jobtastic.command()
@click.argument("task")
@click.option("--args", "arguments", help="Positional arguments, a JSON list.")
@click.option("--kwargs", help="Keyword arguments, a JSON object.")
@click.option("--headers", help="Headers of the call, a JSON object.")
@click.option("--queue", help="The queue that the call names.")
@click.pass_context
def explain(
    context: click.Context,
    task: str,
    arguments: str | None,
    kwargs: str | None,
    headers: str | None,
    queue: str | None,
) -> None:
    """Tell the policy of TASK, the key of a call in words, and what the store holds under it.

    Without arguments it tells the policy, and the key of a call without any if TASK takes one.
    """
    runtime = load(context)
    plan = plan_of(runtime, task)
    lines = [f"rule: {differences.rule(runtime.policies, task, plan)}"]
    lines += [f"{name}: {getattr(plan.policy, name)}" for name in plan.policy.__struct_fields__]
    lines.append(f"told apart by: {differences.told_apart(plan)}")
    lines += (f"warning: {each}" for each in differences.warnings(task, plans_of(runtime)))
    try:
        call = given(arguments, "--args", list), given(kwargs, "--kwargs", dict)
        sent = custom_headers(given(headers, "--headers", dict))
        place = runtime.routes.named(runtime.app.tasks[task], *call, {"queue": queue})
        key = plan.key(*call, plan.vary.of(sent, place))
        words = list(differences.parts(plan, *call, sent, place))
        claim = runtime.store.read(key)
    except ArgumentUnknown as error:
        lines.append(f"key: none, it is not shared: {error}")
    except (TypeError, ValueError, StoreError) as error:
        if arguments is not None or kwargs is not None or isinstance(error, StoreError):
            raise click.ClickException(str(error)) from error
        some = ", ".join(f'"{name}": …' for name in plan.signature.names)
        lines.append(f"key: depends on the arguments; give some, as --kwargs '{{{some}}}'")
    else:
        lines.append(f"key: {key}")
        lines += (f"  {word}" for word in words)
        lines += (f"{part}: {getattr(claim, part, None)}" for part in ("holder", "value"))
    click.echo("\n".join(lines))


@jobtastic.command()
def schema() -> None:
    """Print a JSON Schema of the policy file, for editors."""
    click.echo(json.dumps(policy_schema(), indent=2))


def load(context: click.Context) -> Runtime:
    """Return the runtime of the app, all of whose tasks are there as in a worker."""
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
    try:
        runtime = runtime_of(app)
    except ConfigurationError as error:
        raise click.ClickException("\n".join([*misspelt(app.conf), str(error)])) from error
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
