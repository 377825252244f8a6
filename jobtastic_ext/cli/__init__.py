"""``celery -A proj jobtastic …``: look at a project's policy, and at what it makes of a call."""

from __future__ import annotations

import click

from .importing import import_policy
from .policy import check, explain, schema

__all__ = ("jobtastic",)


@click.group()
def jobtastic() -> None:
    """Check the jobtastic policy, explain what it does to a call, bring one from elsewhere."""


for command in (check, explain, import_policy, schema):
    jobtastic.add_command(command)
