"""A Redis that holds the claims fails over, by Sentinel, while a worker runs and calls are made.

The broker there, too: bare Celery 5.7 ends a worker that has a message unacknowledged and waits for
more when the connection is lost ("Unrecoverable error", 8 of 8), so one is started again, as a
supervisor does.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest

from tests.integration.conftest import POLICY
from tests.integration.crowd import TIMEOUT, Crowd, call_across
from tests.servers import Sentinel, wait_until

BOUNDED = True


@pytest.mark.parametrize("alone", [True, False], ids=["the store", "the broker, too"])
def test_no_call_is_lost(start_project: Any, unique: str, alone: bool) -> None:
    with Sentinel() as group:
        # Longer than a failover takes: what runs meanwhile keeps its claim.
        settings: dict[str, Any] = {"jobtastic_store": group.url(2), "jobtastic_lease": 60}
        if not alone:
            settings |= broker_at(group)
        project = start_project(**settings)
        worker = project.worker(concurrency=2)
        master, replica = group.client(group.master), group.client(group.replica)

        def fail_over(crowd: Crowd) -> None:
            # What a master has not copied yet is lost with it, messages and all.
            with crowd.at_rest() if not alone else nullcontext():
                wait_until(lambda: master.wait(1, 1000) == 1, TIMEOUT)
                group.master.kill()
            wait_until(lambda: replica.info("replication")["role"] == "master")
            if not alone:
                project.worker(concurrency=2)
            crowd.go_on()

        crowd, _ = call_across(project, worker, unique, fail_over)
        assert crowd.unanswered
        (first, *others) = project.notes.read("work")
        assert first["id"] not in {line["id"] for line in others}


def broker_at(group: Sentinel) -> dict[str, Any]:
    """Calls run here while it is away, and what an ended worker had is delivered again."""
    cached = {**POLICY["tasks"]["reports.cached"], "on_broker_error": "eager"}
    options = {"master_name": Sentinel.NAME, "visibility_timeout": 5, "unacked_mutex_expire": 5}
    return {
        "broker_url": group.url(0).partition("?")[0],
        "broker_transport_options": options,
        "jobtastic_policy": {"tasks": {**POLICY["tasks"], "reports.cached": cached}},
    }
