"""``celery -A proj jobtastic …``, as an operator types it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery, _state
from click.testing import CliRunner

from jobtastic_ext.cli import jobtastic as jobtastic_command
from jobtastic_ext.cli.standalone import main as standalone
from tests.integration.conftest import Project
from tests.workers import ROOT


def celery(project: Project, *words: str) -> subprocess.CompletedProcess[str]:
    """Run the command as an operator does: to start Celery takes a second of a processor."""
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "celery", "-A", "tests.reports", *words],
        cwd=ROOT,
        env={**os.environ, "JOBTASTIC_TEST_CONF": json.dumps(project.conf)},
        capture_output=True,
        text=True,
        timeout=120,
    )


def ask(app: Celery, *words: str) -> Any:
    """Run the command in this process."""
    return CliRunner().invoke(jobtastic_command, words, obj=SimpleNamespace(app=app))


def test_check_tells_what_is_fine_and_what_surprises(start_project: Any, tmp_path: Path) -> None:
    path = tmp_path / "jobtastic.yaml"
    path.write_text(
        "tasks:\n  reports.work:\n    on_broker_error: eager\n"
        "    memleak_threshold: 5\n  reports.wrok: {}\n"
    )
    done = celery(start_project(jobtastic_policy=str(path)), "jobtastic", "check")
    assert done.returncode == 1, "a policy that holds for no task is a mistake"
    assert done.stderr.splitlines() == [
        f"{path}:5:3: no task of this app fits `reports.wrok`; did you mean `reports.work`?",
    ]
    assert done.stdout.splitlines() == [
        f"{path} holds for 1 of the app's tasks",
        "  reports.work",
        "    told apart by every argument, the headers of the call and a queue named in the call",
    ]


def test_check_tells_all_mistakes(start_project: Any, tmp_path: Path) -> None:
    path = tmp_path / "jobtastic.yaml"
    path.write_text(
        "tasks:\n  reports.work:\n    cache_durations: 1\n    shadow: 7\n  reports.wrok: {}\n"
    )
    done = ask(start_project(jobtastic_policy=str(path)).app, "check")
    assert done.exit_code == 1
    assert f"{path}:3:5: unknown field" in done.stderr
    assert f"{path}:4:13: " in done.stderr
    assert f"{path}:5:3: no task of this app fits `reports.wrok`" in done.stderr
    assert "Traceback" not in done.stderr


def test_explain_shows_policy_key_and_claim(start_project: Any, unique: str) -> None:
    project = start_project()
    result = project.task("work").delay(unique)
    arguments = json.dumps([unique])
    done = ask(project.app, "explain", "reports.work", "--args", arguments)
    assert done.exit_code == 0, done.stderr
    assert "herd_avoidance_timeout: 1m (from `defaults`)\n" in done.stdout
    assert "cache_prefix: the task's name (by default)\n" in done.stdout
    assert f"key: {project.conf['jobtastic_key_prefix']}:reports.work:" in done.stdout
    assert re.search(rf"task {result.id} has been queued for \d", done.stdout)
    as_data = ask(project.app, "explain", "reports.work", "--args", arguments, "--json")
    assert json.loads(as_data.stdout)["holder"]["owner"] == result.id
    other = ask(project.app, "explain", "reports.work", "--args", '["other"]')
    assert other.stdout.splitlines()[-1] == (
        "nobody runs it, and no result is shared: the next call runs"
    )
    missing = ask(project.app, "explain", "reports.plain")
    assert missing.exit_code == 1
    assert "no policy is meant for reports.plain" in missing.stderr


def test_the_tables_of_a_store_as_sql(start_project: Any) -> None:
    database = {"jobtastic_store": None, "broker_url": "amqp://nowhere"}
    shop = start_project(**database, result_backend="db+postgresql://u:p@nowhere/reports")
    done = celery(shop, "jobtastic", "schema", "--sql")
    assert "CREATE TABLE IF NOT EXISTS jobtastic_claims" in done.stdout
    assert "bytea" in done.stdout
    done = celery(start_project(), "jobtastic", "schema", "--sql")
    assert done.returncode == 1
    assert "claims live in redis://, which needs no tables" in done.stderr


def test_schema_is_json(start_project: Any) -> None:
    done = ask(start_project().app, "schema")
    assert json.loads(done.stdout)["properties"].keys() >= {"tasks", "defaults"}


def jobtastic(folder: Path, module: str, *words: str) -> Any:
    """Run the command in a project's own folder, as its operator does."""
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "celery", "-A", module, "jobtastic", *words],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
    )


INCLUDING = """
from celery import Celery
from jobtastic_ext import JobtasticStep

server = "redis://localhost:1"
app = Celery("shop", broker=server, backend=server, include=["shop_tasks"])
app.steps["worker"].add(JobtasticStep)
"""

INCLUDED = """
from celery import shared_task


@shared_task(name="shop.bill")
def bill(customer, month=1):
    pass
"""


@pytest.fixture
def shop(tmp_path: Path) -> Callable[[str], Path]:
    """Write a project whose tasks stand in a module of `include=[…]`."""

    def write(policy: str) -> Path:
        (tmp_path / "shop.py").write_text(INCLUDING)
        (tmp_path / "shop_tasks.py").write_text(INCLUDED)
        (tmp_path / "jobtastic.yaml").write_text(policy)
        return tmp_path

    return write


def test_check_sees_tasks_of_included_modules(shop: Callable[[str], Path]) -> None:
    folder = shop("tasks:\n  shop.bill: {}\n")
    done = jobtastic(folder, "shop", "check")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "jobtastic.yaml: fine, for 1 of the app's tasks",
        "  shop.bill",
        "    told apart by every argument, the headers of the call and a queue named in the call",
    ]
    (folder / "jobtastic.yaml").write_text("tasks:\n  shop.bill: {significant_kwargs: [costumer]}")
    wrong = jobtastic(folder, "shop", "check")
    assert wrong.returncode == 1
    assert "did you mean `customer`?" in wrong.stderr


def test_a_module_that_cannot_be_imported_is_told_of(shop: Callable[[str], Path]) -> None:
    folder = shop("tasks:\n  shop.bill: {}\n")
    (folder / "shop_tasks.py").write_text("import no_such_module\n")
    done = jobtastic(folder, "shop", "check")
    assert done.returncode == 1
    assert "shop_tasks.py" in done.stderr
    assert "No module named 'no_such_module'" in done.stderr


def test_explain_sees_the_tasks_of_the_django_example() -> None:
    folder = ROOT / "config_examples" / "django_project"
    explained = jobtastic(folder, "division", "explain", "division.lots_of_division")
    assert explained.returncode == 0, explained.stderr
    assert explained.stderr == ""
    assert '--kwargs \'{"numerators": …, "denominators": …}\'' in explained.stdout
    assert "cache_duration: 1h\n" in explained.stdout


def test_explain_names_the_nearest_task_and_what_is_wrong_with_the_arguments(
    start_project: Any,
) -> None:
    app = start_project().app
    unknown = ask(app, "explain", "reports.wrok")
    assert unknown.exit_code == 1
    assert "no task `reports.wrok` in this app; did you mean `reports.work`?" in unknown.stderr
    for words in (["--args", "[1"], ["--args", "{}"], ["--kwargs", '{"z": 1}']):
        wrong = ask(app, "explain", "reports.work", *words)
        assert (wrong.exit_code, wrong.stdout) == (1, ""), "no dump before the error"
        assert wrong.stderr.startswith("Error: ")


def test_a_misspelt_setting_is_named_beside_a_mistake_in_the_policy(start_project: Any) -> None:
    told = "the setting `jobtastic_leese` is not known, and has no effect; did you mean"
    for policy in ({"tasks": {"reports.work": {}}}, {"tasks": {"reports.work": {"shadow": 7}}}):
        app = start_project(jobtastic_leese=5, jobtastic_policy=policy).app
        done = ask(app, "check")
        assert done.exit_code == 1
        assert f"{told} `jobtastic_lease`?" in done.stderr


def test_a_worker_says_what_holds(start_project: Any, tmp_path: Path) -> None:
    path = tmp_path / "jobtastic.yaml"
    path.write_text("tasks:\n  reports.work: {}\n  reports.c*: {}\n")
    project = start_project(jobtastic_policy=str(path), jobtastic_storre="redis://a")
    worker = project.worker(concurrency=1)
    (line,) = (x for x in worker.output().splitlines() if "claims live in" in x)
    place = project.conf["jobtastic_store"]
    assert line.endswith(f"{path} holds for 3 tasks; claims live in {place}")
    assert "did you mean `jobtastic_store`?" in worker.output()


def test_a_hook_checks_files_and_with_an_app_its_tasks(
    shop: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(shop("tasks:\n  shop.bill: {significant_kwargs: [costumer]}\n"))
    monkeypatch.setattr(sys, "path", [*sys.path])
    # What the project registers is for this test alone.
    monkeypatch.setattr(_state, "_on_app_finalizers", set(_state._on_app_finalizers))
    monkeypatch.setattr(_state._tls, "current_app", _state._tls.current_app)
    alone = CliRunner().invoke(standalone, ["jobtastic.yaml"])
    assert (alone.exit_code, alone.output) == (0, ""), "of a file alone the names may be right"
    with_app = CliRunner().invoke(standalone, ["-A", "shop", "jobtastic.yaml"])
    for name in ("shop", "shop_tasks"):
        monkeypatch.delitem(sys.modules, name)
    assert with_app.exit_code == 1
    assert "did you mean `customer`?" in with_app.stderr
    Path("jobtastic.yaml").write_text("tasks:\n  shop.bill: {cash_duration: 1h}\n")
    wrong = CliRunner().invoke(standalone, ["jobtastic.yaml"])
    assert wrong.exit_code == 1
    assert "jobtastic.yaml:2:15: unknown field `cash_duration`; did you mean" in wrong.stderr
    nowhere = CliRunner().invoke(standalone, ["-A", "no_such_module"])
    assert nowhere.exit_code == 1
    assert "no_such_module cannot be imported" in nowhere.stderr
