"""``jobtastic-check``: what a pre-commit hook or a pipeline runs, with an app or without one."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import SimpleNamespace

import click
from celery.app.utils import find_app

from ..errors import PolicyError
from ..policy.loader import load_policy
from .policy import check


@click.command("jobtastic-check")
@click.option("-A", "--app", help="The app whose tasks the policy is for, as `celery -A` takes it.")
@click.argument("files", nargs=-1, type=click.Path(path_type=Path))
@click.pass_context
def main(context: click.Context, app: str | None, files: tuple[Path, ...]) -> None:
    """Check policy FILES; with -A also what they say of the app's tasks, and its settings.

    Exit status 1 if one is wrong.
    """
    sys.path.insert(0, os.getcwd())  # as `celery` does
    wrong = False
    for file in files:
        try:
            load_policy(file)
        except PolicyError as error:
            click.echo(error, err=True)
            wrong = True
    if wrong:
        context.exit(1)
    if app is not None:
        try:
            context.obj = SimpleNamespace(app=find_app(app))
        except (ImportError, AttributeError) as error:
            raise click.ClickException(f"{app} cannot be imported: {error}") from error
        context.invoke(check)
