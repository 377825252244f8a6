"""Redis delivers a message again when it is not acknowledged within the visibility timeout.

kombu (`QoS.restore_visible`) looks for them when a worker starts, and now and then.  A task that is
acknowledged late and takes longer than the timeout therefore runs several times on bare Celery.
"""

from __future__ import annotations

import time
from typing import Any

from tests.integration.conftest import POLICY, Project, wait_until

VISIBILITY = 5

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
    for project in (ours, bare):
        project.worker(concurrency=2)
    with ours.gate(unique) as gate, bare.gate(unique):
        results = [project.task("late").delay(unique, gate=gate) for project in (ours, bare)]
        wait_until(lambda: ours.runs("late", unique) and bare.runs("late", unique))
        time.sleep(VISIBILITY + 1)
        for project in (ours, bare):  # for a worker that starts looks at once
            project.worker(concurrency=2)
        said = f"reports.late[{results[0].id}]"
        wait_until(lambda: ours.says(f"{said} waits"), why="a copy is delivered")
        wait_until(lambda: bare.runs("late", unique) > 1, why="else the test shows nothing")
    for result in results:
        assert result.get(timeout=TIMEOUT) == unique
    # The copies look again, and find that all is done.
    wait_until(lambda: ours.says(f"{said} dropped") >= ours.says(f"{said} waits"))
    assert ours.runs("late", unique) == 1
