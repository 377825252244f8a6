"""``celery -A proj jobtastic …``: a project's policy, what it makes of calls, saves and holds."""

from __future__ import annotations

import click

from .importing import import_policy
from .operating import claims, forget, savings
from .policy import check, explain, schema

__all__ = ("jobtastic",)


@click.group()
def jobtastic() -> None:
    """Check the policy, explain what it does to a call; see what it saves and holds, and let go."""


for command in (check, claims, explain, forget, import_policy, savings, schema):
    jobtastic.add_command(command)
