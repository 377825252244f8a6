"""``celery -A proj jobtastic …``, as an operator types it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.integration.conftest import Project
from tests.workers import ROOT


def celery(project: Project, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "celery", "-A", "tests.reports", *words],
        cwd=ROOT,
        env={**os.environ, "JOBTASTIC_TEST_CONF": json.dumps(project.conf)},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_check_tells_what_is_fine_and_what_surprises(start_project: Any, tmp_path: Path) -> None:
    path = tmp_path / "jobtastic.yaml"
    path.write_text(
        "tasks:\n  reports.work:\n    on_broker_error: eager\n"
        "    memleak_threshold: 5\n  reports.wrok: {}\n"
    )
    done = celery(start_project(jobtastic_policy=str(path)), "jobtastic", "check")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        f"warning: {path}:5:3: no task of this app fits `reports.wrok`; "
        "did you mean `reports.work`?",
        f"{path}: fine, for 1 of the app's tasks",
        "  reports.work",
    ]


def test_check_tells_all_mistakes(start_project: Any, tmp_path: Path) -> None:
    path = tmp_path / "jobtastic.yaml"
    path.write_text("tasks:\n  reports.work:\n    cache_durations: 1\n    shadow: 7\n")
    done = celery(start_project(jobtastic_policy=str(path)), "jobtastic", "check")
    assert done.returncode == 1
    assert f"{path}:3:5: unknown field" in done.stderr
    assert f"{path}:4:13: " in done.stderr
    assert "Traceback" not in done.stderr


def test_explain_shows_policy_key_and_claim(start_project: Any, unique: str) -> None:
    project = start_project()
    result = project.task("work").delay(unique)
    arguments = json.dumps([unique])
    done = celery(project, "jobtastic", "explain", "reports.work", "--args", arguments)
    assert done.returncode == 0, done.stderr
    assert "herd_avoidance_timeout: 60.0" in done.stdout
    assert f"key: {project.conf['jobtastic_key_prefix']}:reports.work:" in done.stdout
    assert f"owner='{result.id}'" in done.stdout
    missing = celery(project, "jobtastic", "explain", "reports.plain")
    assert missing.returncode == 1
    assert "no policy is meant for reports.plain" in missing.stderr


def test_schema_is_json(start_project: Any) -> None:
    done = celery(start_project(), "jobtastic", "schema")
    assert json.loads(done.stdout)["properties"].keys() >= {"tasks", "defaults"}
