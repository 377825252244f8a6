"""What an operator asks: `savings`, `claims` and `forget`."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import Any

import click
import msgspec

from ..errors import PolicyError, StoreError
from ..operations.desk import Desk
from ..operations.held import Held, Wanted
from ..operations.savings import Saving
from .lengths import lasting, length
from .project import load

encode = msgspec.json.Encoder().encode

#: More than so many are forgotten only if somebody says so.
MANY = 100


@click.command()
@click.option("--since", callback=length, default="7d", help="How far back: 6h, 7d (35d at most).")
@click.option("--json", "as_json", is_flag=True, help="A list of objects, one for each task.")
@click.pass_context
def savings(context: click.Context, since: float, as_json: bool) -> None:
    """Tell how many runs were saved, by task, and how much time."""
    desk = load(context).desk
    try:
        found = desk.savings(since)
    except (StoreError, PolicyError) as error:
        raise click.ClickException(str(error)) from error
    if as_json:
        click.echo(msgspec.json.format(encode(found), indent=2).decode())
        return
    for line in table(found):
        click.echo(line)
    for warning in (each for one in found for each in one.warnings):
        click.echo(f"warning: {warning}", err=True)


def table(found: Iterable[Saving]) -> Iterator[str]:
    rows = [
        (
            one.task,
            str(one.calls),
            str(one.runs),
            str(one.joined),
            str(one.cached + one.stale),
            f"{one.hit_rate:.0%}",
            lasting(one.seconds_saved),
            lasting(one.shadow_seconds) if one.shadow_seconds else "-",
        )
        for one in found
    ]
    head = ("task", "calls", "runs", "joined", "cached", "hit rate", "time saved", "in shadow")
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    for row in (head, *rows):
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        yield "  ".join(cells)


@click.command()
@click.option("--task", default="", help="Of tasks with this name, or of a glob.")
@click.option("--state", type=click.Choice(["queued", "running", "waiting", "done"]))
@click.option("--older", callback=length, default="0", help="For longer than: 10m, 1h.")
@click.option("--overdue", is_flag=True, help="Whose deadline has passed.")
@click.option("--json", "as_json", is_flag=True, help="A list of objects.")
@click.pass_context
def claims(
    context: click.Context, task: str, state: Any, older: float, overdue: bool, as_json: bool
) -> None:
    """List the calls that are queued or running, and who waits for them.

    `--state waiting` are those for which others wait, `done` those whose result is shared.  Which
    arguments a call has is not stored, and not shown.
    """
    desk = load(context).desk
    wanted = Wanted(task=task, state=state, older=older, overdue=overdue)
    try:
        write(desk.claims(wanted), as_json)
    except (StoreError, PolicyError) as error:
        raise click.ClickException(str(error)) from error


def write(found: Iterator[Held], as_json: bool) -> None:
    """Write one claim after another: there may be a million."""
    out = sys.stdout.write
    if as_json:
        between = "[\n"
        for one in found:
            out(f"{between}  {encode(one).decode()}")
            between = ",\n"
        out("[]\n" if between == "[\n" else "\n]\n")
        return
    form = "{:36}  {:7}  {:>8}  {:>8}  {:>7}  {:24}  {}\n"
    out(form.format("id", "state", "age", "deadline", "waiting", "worker", "task"))
    for one in found:
        deadline = "never" if one.deadline is None else said(one.deadline)
        age, worker = lasting(one.age), one.worker or "-"
        out(form.format(one.id, one.state, age, deadline, one.waiting, worker, one.task))


def said(deadline: float) -> str:
    return lasting(deadline) if deadline > 0 else f"-{lasting(-deadline)}"


@click.command()
@click.option("--task", default="", help="All calls of tasks with this name, or of a glob.")
@click.option("--id", "task_id", default="", help="The call that this task runs, or has run.")
@click.option("--key", default="", help="The call with this key.")
@click.option("--yes", is_flag=True, help=f"Do not ask, even if there are more than {MANY}.")
@click.option("--json", "as_json", is_flag=True, help="An object: how many were forgotten.")
@click.pass_context
def forget(
    context: click.Context, task: str, task_id: str, key: str, yes: bool, as_json: bool
) -> None:
    """Let go of calls and of their results, whoever has them: the next identical call runs.

    A run that is under way goes on; `celery control terminate` ends it.
    """
    if sum(map(bool, (task, task_id, key))) != 1:
        raise click.UsageError("name what is to be forgotten: one of --task, --id and --key")
    desk = load(context).desk
    try:
        keys = keys_of(desk, task, task_id, key)
        if len(keys) > MANY and not yes:
            click.confirm(f"forget {len(keys)} calls?", abort=True, err=as_json)
        count = desk.forget(keys)
    except (StoreError, PolicyError) as error:
        raise click.ClickException(str(error)) from error
    if as_json:
        click.echo(encode({"forgotten": count}).decode())
    else:
        click.echo(f"forgotten: {count} call{'s' * (count != 1)}")
    if not count:
        context.exit(1)


def keys_of(desk: Desk, task: str, task_id: str, key: str) -> list[str]:
    if key:
        return [key]
    if task_id:
        return [one.key for one in desk.named(task_id)]
    return [one.key for one in desk.claims(Wanted(task=task, results=True))]
