"""Redis delivers a message again when it is not acknowledged within the visibility timeout.

kombu (`QoS.restore_visible`) looks for them when a worker starts, and now and then.  A task that is
acknowledged late and takes longer than the timeout therefore runs several times on bare Celery.
"""

from __future__ import annotations

import time
from typing import Any

from tests.integration.conftest import POLICY, Project, wait_until

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
    workers = [project.worker(concurrency=2) for project in (ours, bare)]
    results = [project.task("late").delay(unique, delay=RUN) for project in (ours, bare)]
    wait_until(lambda: ours.runs("late", unique) and bare.runs("late", unique))
    for _ in range(2):  # for a worker that starts looks at once
        time.sleep(VISIBILITY + 1)
        workers += [project.worker(concurrency=2) for project in (ours, bare)]
    for result in results:
        assert result.get(timeout=TIMEOUT) == unique
    # The copies look again within two seconds, and find that all is done.
    time.sleep(5)
    assert ours.runs("late", unique) == 1
    said = "".join(worker.output() for worker in workers)
    assert f"reports.late[{results[0].id}] waits" in said, "no copy was delivered"
    assert bare.runs("late", unique) > 1, "the timeout did nothing, so the test shows nothing"
