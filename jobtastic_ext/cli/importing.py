"""`import`: a policy from what other libraries were told."""

from __future__ import annotations

import json
from pathlib import Path

import click

from ..migration.collected import Collected, collect
from ..migration.writing import as_comments, policy_of, policy_text
from ..runtime import has_step
from .project import load_app


@click.command("import")
@click.option(
    "--write",
    "file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the policy to this file, which must not exist yet.",
)
@click.option(
    "--source",
    "folder",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Read jobtastic's classes in the source under this folder, from which modules are named. "
    "Needs no -A: today's Celery cannot import them.",
)
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
@click.pass_context
def import_policy(
    context: click.Context, file: Path | None, folder: Path | None, as_json: bool
) -> None:
    """Make a policy of what celery-once, celery-singleton, celery-heimdall or jobtastic was told.

    Prints it as YAML, with comments for what has no equal, and what to delete.  Changes no code.
    """
    app = load_app(context)
    tasks = [task for _, task in sorted(app.tasks.items())]
    collected = collect(tasks, app.conf, folder=folder, has_step=has_step(app))
    for each in collected.unread:
        click.echo(f"not read, for it is no Python of today: {each.place}: {each.reason}", err=True)
    if not collected.found:
        raise click.ClickException(
            f"none of {len(tasks)} tasks uses celery-once, celery-singleton, celery-heimdall or "
            "jobtastic; for jobtastic, name the folder of its source: --source ."
        )
    if file is not None:
        try:
            with file.open("x", encoding="utf-8") as opened:
                opened.write(policy_text(collected))
        except OSError as error:
            raise click.ClickException(f"{file} is not written: {error.strerror}") from error
    if as_json:
        click.echo(json.dumps(as_data(collected), indent=2))
    elif file is not None:
        click.echo(f"{file} holds a policy for {len(collected.told)} tasks.  What is left to do:")
        click.echo("\n".join(line for step in collected.steps for line in as_comments(step, "- ")))
    else:
        click.echo(policy_text(collected))
        click.echo("# What is left to do:")
        click.echo(
            "\n".join(line for step in collected.steps for line in as_comments(step, "# - "))
        )


def as_data(collected: Collected) -> dict[str, object]:
    return {
        "policy": policy_of(collected),
        "tasks": [
            {
                "task": each.task,
                "library": each.library,
                "place": each.place,
                "remarks": each.remarks,
            }
            for each in collected.found
        ],
        "steps": collected.steps,
    }
