"""Who runs which test when pytest is given ``-n``: one module in one process, the longest first.

A module keeps its servers, its worker and its order.  Tests that take long and share nothing go one
by one.  What needs RabbitMQ goes to one process, and what needs a browser to three: to start them
takes long.
"""

from __future__ import annotations

import os
from typing import Any

import pytest

#: Processes for each processor under ``-n auto``, and at most: tests wait more than they compute.
PER_PROCESSOR, AT_MOST = 5, 12

#: Modules that take long whatever is done, the longest first: a shorter one fills what is left.
#: Those that compute stand among those that wait.
FIRST: tuple[str, ...] = (
    "tests/browser/test_examples.py",
    "tests/chaos/test_chaos.py",
    "tests/integration/test_database_outages.py",
    "tests/integration/test_fallback_cases.py",
    "tests/test_celery_units.py",
    "tests/integration/test_times_of_calls.py",
    "tests/integration/test_endings.py",
    "tests/integration/test_progress.py",
    "tests/integration/test_due_in_an_outage.py",
    "tests/model/test_exhaustive.py",
    "tests/integration/test_in_time.py",
    "tests/test_policy.py",
    "tests/browser/test_element.py",
    "tests/integration/test_without_results.py",
    "tests/model/test_mutations.py",
    "tests/integration/test_unique.py",
    "tests/browser/test_cut_off.py",
    "tests/test_estimates.py",
    "tests/web/test_cut_off.py",
    "tests/integration/test_brownout.py",
    "tests/web/test_events.py",
    "tests/web/test_status.py",
    "tests/integration/test_counts.py",
    "tests/integration/test_visibility.py",
    "tests/web/test_views.py",
    "tests/integration/test_operations.py",
    "tests/integration/test_once_more.py",
    "tests/integration/test_habits.py",
    "tests/stores/test_postgresql.py",
    "tests/browser/test_jquery.py",
    "tests/stores/test_redis.py",
    "tests/integration/test_delivery.py",
    "tests/integration/test_cli.py",
    "tests/integration/test_lines.py",
    "tests/stores/test_twins.py",
    "tests/integration/test_results.py",
    "tests/integration/test_demo.py",
)

#: Folders and modules whose tests share nothing, or next to nothing.
ONE_BY_ONE: tuple[str, ...] = (
    "tests/integration/test_across_an_outage.py",
    "tests/integration/test_memory_pools.py",
    "tests/integration/test_pools.py",
    "tests/integration/test_progress_outage.py",
    "tests/stores/test_server.py",
)

#: What goes to one process.
TOGETHER: tuple[tuple[str, ...], ...] = (
    (  # RabbitMQ
        "tests/integration/test_fallback_cases.py",
        "tests/integration/test_sending.py",
        "tests/integration/test_databases.py",
        "tests/integration/test_herd_on_each_store.py",
        "tests/integration/test_django_postgresql.py",
        "tests/integration/test_across_an_outage.py::test_rabbitmq",
        "tests/integration/test_pools.py::test_rabbitmq",
    ),
    ("tests/browser/test_examples.py",),
    ("tests/browser/test_element.py", "tests/browser/test_payloads.py"),
    ("tests/browser/",),
)

#: What takes no time, to end with.
LAST: tuple[str, ...] = ("tests/test_", "tests/fuzz/")


def unit_of(nodeid: str) -> str:
    """The tests of one unit run in one process, one after the other."""
    for group in TOGETHER:
        if nodeid.startswith(group):
            return group[0]
    return nodeid if nodeid.startswith(ONE_BY_ONE) else nodeid.partition("::")[0]


def rank(nodeid: str) -> tuple[int, int]:
    """Sort key of a test: first what is long, last what is short, else as it was."""
    module = nodeid.partition("::")[0]
    if module in FIRST:
        return (0, FIRST.index(module))
    return (2 if module.startswith(LAST) else 1, 0)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    return min(AT_MOST, PER_PROCESSOR * (os.cpu_count() or 1))


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: rank(item.nodeid))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    if config.getvalue("dist") != "load":
        return None  # asked for by name
    from xdist.scheduler import LoadScopeScheduling

    class Units(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return unit_of(nodeid)

    config.option.loadscopereorder = False
    return Units(config, log)
