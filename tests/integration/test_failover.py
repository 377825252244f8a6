"""A Redis that holds the claims fails over, by Sentinel, while a worker runs and calls are made."""

from __future__ import annotations

from typing import Any

from tests.integration.crowd import TIMEOUT, Crowd, call_across
from tests.servers import Sentinel, wait_until

BOUNDED = True


def test_no_call_is_lost(start_project: Any, unique: str) -> None:
    with Sentinel() as group:
        # Longer than a failover takes: what runs meanwhile keeps its claim.
        project = start_project(jobtastic_store=group.url(2), jobtastic_lease=60)
        worker = project.worker(concurrency=2)
        master, replica = group.client(group.master), group.client(group.replica)

        def fail_over(crowd: Crowd) -> None:
            # What a master has not copied yet is lost with it.
            wait_until(lambda: master.wait(1, 1000) == 1, TIMEOUT)
            group.master.kill()
            crowd.go_on()
            wait_until(lambda: replica.info("replication")["role"] == "master")

        crowd, _ = call_across(project, worker, unique, fail_over)
        assert crowd.unanswered
        (first, *others) = project.notes.read("work")
        assert first["id"] not in {line["id"] for line in others}
