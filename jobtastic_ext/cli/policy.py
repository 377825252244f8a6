"""What the policy says: `check`, `explain` and `schema`."""

from __future__ import annotations

import json

import click

from ..errors import ConfigurationError
from ..migration.collected import still_locked
from ..policy import differences
from ..policy.fields import policy_schema
from ..stores import tables_of
from .explained import explained
from .project import load, plans_of
from .stories import explain_held


@click.command()
@click.pass_context
def check(context: click.Context) -> None:
    """Check settings and policy against the tasks of the app; exit status 1 if one is wrong.

    A setting that nobody reads and a name that no task fits are wrong, too, and so is a task that
    another library locks as well.
    """
    runtime = load(context)
    plans = plans_of(runtime)
    tasks = [runtime.app.tasks[name] for name in plans]
    surprises = [*runtime.warnings(), *still_locked(tasks, runtime.app.conf)]
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


@click.command()
@click.argument("task", required=False)
@click.option("--key", help="The key of a call, instead of TASK and its arguments.")
@click.option("--id", "task_id", help="The id of the task that runs a call, or has run it.")
@click.option("--args", "arguments", help="Positional arguments, a JSON list.")
@click.option("--kwargs", help="Keyword arguments, a JSON object.")
@click.option("--headers", help="Headers of the call, a JSON object.")
@click.option("--queue", help="The queue that the call names.")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
@click.pass_context
def explain(
    context: click.Context,
    task: str | None,
    key: str | None,
    task_id: str | None,
    arguments: str | None,
    kwargs: str | None,
    headers: str | None,
    queue: str | None,
    as_json: bool,
) -> None:
    """Tell the policy of TASK, the key of a call in words, and what the store holds under it.

    Without arguments it tells the policy, and the key of a call without any if TASK takes one.
    """
    if sum(one is not None for one in (task, key, task_id)) != 1:
        raise click.UsageError("name a call: TASK with its arguments, --key or --id")
    runtime = load(context)
    if task is None:
        explain_held(runtime, key, task_id or "", as_json)
        return
    found = explained(
        runtime, task, arguments=arguments, kwargs=kwargs, headers=headers, queue=queue
    )
    if as_json:
        click.echo(json.dumps(found.as_data(), indent=2))
    else:
        click.echo("\n".join(found.told()))


@click.command()
@click.option("--sql", is_flag=True, help="The tables that claims live in, as SQL.")
@click.pass_context
def schema(context: click.Context, sql: bool) -> None:
    """Print a JSON Schema of the policy file, for editors; or the SQL of the store's tables.

    The store makes its tables when it first misses them; where its user may not, somebody else
    runs what is printed here.
    """
    if not sql:
        click.echo(json.dumps(policy_schema(), indent=2))
        return
    try:
        click.echo(tables_of(load(context).settings.store), nl=False)
    except ConfigurationError as error:
        raise click.ClickException(str(error)) from error
