"""Results in `django-db` and claims in `django://alias`, whose PostgreSQL is in an outage.

The tests are those of `test_database_outages`, which runs this in a process of its own: Django is
configured once for each.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any

import django
import pytest
from django.core.management import call_command
from django.db import connections

from jobtastic_ext.testing.server import LOOPBACK, free_port
from tests.databases import PostgreSQL
from tests.integration.crowd import DEADLINE
from tests.integration.test_database_outages import (
    HARMS,
    WRITE,
    Server,
    call_while_results_are_away,
    start,
)
from tests.servers import Cutter

BOUNDED = True

#: Of every proxy: Django reads its settings once.
PORT = free_port()

DATABASE = {
    "ENGINE": "django.db.backends.postgresql",
    "NAME": "test",
    "USER": "postgres",
    "HOST": LOOPBACK,
    "PORT": PORT,
}
CACHE = {"BACKEND": "django.core.cache.backends.db.DatabaseCache", "LOCATION": "cache"}

os.environ["DJANGO_SETTINGS_MODULE"] = "tests.integration.django_shop"
os.environ["SHOP_APPS"] = json.dumps(["django_celery_results"])
os.environ["SHOP_CACHES"] = json.dumps({"claims": CACHE})
os.environ["SHOP_DATABASES"] = json.dumps({"default": DATABASE})


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with PostgreSQL() as server:
        with before(server):
            django.setup()
            call_command("migrate", verbosity=0)
            connections.close_all()
        yield server


@pytest.fixture
def proxy(server: Server) -> Iterator[Cutter]:
    with before(server) as proxy:
        yield proxy
        connections.close_all()


def before(server: Server) -> Cutter:
    proxy = Cutter(server.port, WRITE)
    proxy.port = PORT
    return proxy


@pytest.mark.parametrize("harm", HARMS)
def test_results_there_too(
    start_project: Any, server: Server, proxy: Cutter, unique: str, harm: str
) -> None:
    project, _ = start(
        start_project, "django://claims", timeout=DEADLINE, result_backend="django-db"
    )
    # As Django does itself before each request, if one is dead.
    call_while_results_are_away(project, server, proxy, unique, harm, connections.close_all)
