"""Redis delivers a message again when it is not acknowledged within the visibility timeout.

kombu (`Channel.qos.restore_visible`) looks for such messages every ten seconds.  A task that is
acknowledged late and takes longer than the timeout therefore runs several times on bare Celery.
"""

from __future__ import annotations

import time
from typing import Any

from tests.integration.conftest import POLICY, Project

VISIBILITY, RUN = 5, 30

TIMEOUT = 120


def test_a_long_task_runs_once_and_several_times_on_bare_celery(
    start_project: Any, unique: str
) -> None:
    tasks = {name: policy for name, policy in POLICY["tasks"].items() if name != "reports.late"}
    ours: Project = start_project(broker_transport_options={"visibility_timeout": VISIBILITY})
    bare: Project = start_project(
        broker_transport_options={"visibility_timeout": VISIBILITY},
        jobtastic_policy={**POLICY, "tasks": tasks},
    )
    worker = ours.worker(concurrency=4)
    bare.worker(concurrency=4)
    results = [project.task("late").delay(unique, delay=RUN) for project in (ours, bare)]
    for result in results:
        assert result.get(timeout=TIMEOUT) == unique
    # The copies look again within two seconds, and find that all is done.
    time.sleep(5)
    assert ours.runs("late", unique) == 1
    assert f"reports.late[{results[0].id}] waits" in worker.output(), "no copy was delivered"
    assert bare.runs("late", unique) > 1, "the timeout did nothing, so the test shows nothing"
