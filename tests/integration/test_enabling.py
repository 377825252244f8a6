"""One line enables producers and workers, and everything can be put back."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from celery import Celery

from jobtastic_ext import JobtasticStep, PolicyError
from jobtastic_ext.runtime import close_runtime, runtime_of
from tests.integration.conftest import POLICY, Project, wait_until
from tests.workers import ROOT, Worker

TIMEOUT = 30


@pytest.mark.parametrize("name", ["shared", "unbound", "based", "add", "work"])
def test_every_way_to_declare_a_task(project: Project, unique: str, name: str) -> None:
    # `@shared_task`, `@app.task`, unbound, a custom base class with its own `__call__`.
    task = project.task(name)
    if name == "add":
        arguments: tuple[Any, ...] = (1000, int(unique, 16))
        seen: Any = list(arguments)
    else:
        arguments, seen = (unique,), unique
    with project.gate(unique) as gate:
        first = task.apply_async(arguments, {"gate": gate})
        assert task.apply_async(arguments, {"gate": gate}).id == first.id
        wait_until(lambda: project.runs(name, seen))  # else it may be the other that runs
        sent = project.app.send_task(task.name, arguments, {"gate": gate})
        wait_until(lambda: project.says(f"[{sent.id}] waits: "))
    first.get(timeout=TIMEOUT)
    sent.get(timeout=TIMEOUT)
    assert project.runs(name, seen) == 1


def test_an_app_without_the_step_is_left_alone(redis_server: Any) -> None:
    app = Celery("bare", broker=redis_server.url(0), set_as_current=False)
    app.conf.jobtastic_policy = "/there/is/no/such/file"

    @app.task(name="bare.task")
    def bare() -> None: ...

    assert runtime_of(app) is None
    assert bare.delay().id != bare.delay().id


def test_uninstall_puts_everything_back_and_install_is_repeatable() -> None:
    script = """
from celery.app.task import Task
before = dict(vars(Task))
import jobtastic_ext
assert Task.apply_async is not before["apply_async"]
jobtastic_ext.install(); jobtastic_ext.install()
jobtastic_ext.uninstall()
now = dict(vars(Task))
changed = {k for k in {**before, **now} if before.get(k) is not now.get(k)}
assert not changed, changed
jobtastic_ext.uninstall()
jobtastic_ext.install()
assert Task.apply_async is not before["apply_async"]
"""
    subprocess.run([sys.executable, "-W", "error", "-c", script], check=True, cwd=ROOT)


def test_uninstall_unwraps_the_tasks_of_a_worker() -> None:
    script = """
import jobtastic_ext
from celery import Celery
from jobtastic_ext.plugin.bootstep import JobtasticStep
app = Celery("x", broker="memory://", backend="cache+memory://")
app.conf.jobtastic_store = "memory://"
app.conf.jobtastic_policy = {"tasks": {"t": {}}}
app.steps["worker"].add(JobtasticStep)
@app.task(name="t")
def t(): return 1
run = t.run
from celery.concurrency.solo import TaskPool
class Parent: pool_cls = TaskPool
parent = Parent(); parent.app = app
JobtasticStep(parent); JobtasticStep(parent)
assert t.run is not run and t.run() == 1
jobtastic_ext.uninstall()
assert t.run == run and "run" not in vars(t)
from celery import signals
left = [r for r in signals.task_postrun.receivers if "jobtastic" in repr(r)]
assert not left, left
"""
    subprocess.run([sys.executable, "-W", "error", "-c", script], check=True, cwd=ROOT)


def test_always_eager_and_direct_calls_pass_through(start_project: Any, unique: str) -> None:
    # Nothing is read, neither a policy nor a store: such are the settings of many a test suite.
    project = start_project(
        task_always_eager=True,
        jobtastic_policy="/there/is/no/such/file",
        jobtastic_store=None,
        broker_url="amqp://",
        result_backend=None,
    )
    work = project.task("work")
    assert work.delay(unique, delay=0).get() == {"x": unique, "y": 1}
    assert work.delay(unique, delay=0).get() == {"x": unique, "y": 1}
    assert work(unique, delay=0) == {"x": unique, "y": 1}
    assert work.apply((unique,), {"delay": 0}).get() == {"x": unique, "y": 1}
    assert project.runs("work", unique) == 4
    assert runtime_of(project.app) is None


def test_a_task_registered_later(start_project: Any, unique: str) -> None:
    project = start_project()
    project.app.finalize()
    project.app.conf.jobtastic_policy = {"tasks": {"later.task": {}, **POLICY["tasks"]}}
    project.task("work").delay(unique)

    @project.app.task(name="later.task")
    def later(x: str) -> str:
        return x

    assert later.delay(unique).id == later.delay(unique).id


def test_settings_by_djangos_namespace(redis_server: Any) -> None:
    class Settings:
        CELERY_BROKER_URL = redis_server.url(0)
        CELERY_RESULT_BACKEND = redis_server.url(1)
        CELERY_JOBTASTIC_POLICY = POLICY
        CELERY_JOBTASTIC_KEY_PREFIX = "django"
        CELERY_JOBTASTIC_LEASE = 7

    app = Celery("django", set_as_current=False)
    app.config_from_object(Settings, namespace="CELERY")
    app.steps["worker"].add(JobtasticStep)
    runtime = runtime_of(app)
    assert runtime is not None
    assert runtime.settings.key_prefix == "django"
    assert runtime.settings.lease == 7
    assert runtime.settings.store == redis_server.url(1)


BAD_POLICY = """\
tasks:
  reports.work:
    cache_durations: 1h
    significant_kwargs: [x, yy]
  reports.cached:
    herd_avoidance_timeout: -5
  reports.wrok: {}
"""


def test_a_producer_raises_all_mistakes_at_the_first_call(
    start_project: Any, unique: str, tmp_path: Path
) -> None:
    path = tmp_path / "jobtastic.yaml"
    path.write_text(BAD_POLICY)
    project = start_project(jobtastic_policy=str(path))
    for _ in range(2):
        with pytest.raises(PolicyError) as caught:
            project.task("work").delay(unique)
        text = str(caught.value)
        assert f"{path}:3:5: " in text
        assert "did you mean `cache_duration`?" in text
        assert f"{path}:6:29: " in text
        assert f"{path}:4:29: reports.work takes no argument `yy`" in text
        assert "did you mean `y`?" in text


def test_a_policy_that_nobody_named_may_be_missing(
    start_project: Any,
    unique: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    # A call in another working directory raised for every task, also those that no policy names.
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("JOBTASTIC_POLICY", raising=False)
    project = start_project(jobtastic_policy=None)
    assert project.task("work").delay(unique).state == "PENDING"
    project.task("work").delay(unique)
    (record,) = (each for each in caplog.records if each.name == "jobtastic_ext")
    (warning,) = runtime_of(project.app).warnings()  # type: ignore[union-attr]
    assert record.getMessage() == warning, "a producer is told once, for it sees no worker's log"
    assert f"there is no jobtastic.yaml in {tmp_path}" in warning
    for named in (str(tmp_path / "none.yaml"), "jobtastic.yaml"):
        wrong = start_project(jobtastic_policy=named)
        with pytest.raises(PolicyError, match="there is no such file"):
            wrong.task("work").delay(unique)


def test_a_worker_warns_that_there_is_no_policy(
    start_project: Any, unique: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("JOBTASTIC_POLICY", raising=False)
    project = start_project(jobtastic_policy=None)
    worker = project.worker(concurrency=1)
    assert project.task("plain").delay(unique).get(timeout=30) == unique
    told = f"there is no jobtastic.yaml in {ROOT}: no task has a policy"
    assert worker.output().count(told) == 1


def test_a_significant_argument_that_the_task_does_not_take(
    start_project: Any, unique: str, tmp_path: Path
) -> None:
    path = tmp_path / "jobtastic.yaml"
    path.write_text("tasks:\n  reports.work:\n    significant_kwargs:\n      - x\n      - z\n")
    project = start_project(jobtastic_policy=str(path))
    project.app.finalize()
    with pytest.raises(PolicyError, match="takes no argument `z`") as caught:
        project.task("work").delay(unique)
    assert f"{path}:5:9: " in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"result_backend": "rpc://"}, "rpc:// delivers a result to one caller only"),
        ({"result_backend": None}, "no result backend is configured"),
        ({"task_ignore_result": True}, "its results are ignored"),
    ],
)
def test_results_that_cannot_be_kept(
    start_project: Any, unique: str, settings: dict[str, Any], words: str
) -> None:
    policy = {"tasks": {"reports.work": {"cache_duration": "1h"}}}
    project = start_project(jobtastic_policy=policy, **settings)
    with pytest.raises(PolicyError, match=words):
        project.task("work").delay(unique)


def test_a_worker_refuses_to_start_on_an_invalid_policy(start_project: Any, tmp_path: Path) -> None:
    path = tmp_path / "jobtastic.yaml"
    path.write_text(BAD_POLICY)
    project = start_project(jobtastic_policy=str(path))
    with pytest.raises(AssertionError) as caught, Worker(project.conf):
        raise RuntimeError("it started")
    assert f"{path}:3:5: " in str(caught.value)
    assert "Error: 4 mistakes in the jobtastic policy:" in str(caught.value)
    assert f"{path}:7:3: no task of this app fits `reports.wrok`" in str(caught.value)
    assert "Traceback" not in str(caught.value)


def test_a_policy_for_no_task_is_a_warning_when_a_worker_starts(
    start_project: Any, tmp_path: Path
) -> None:
    path = tmp_path / "jobtastic.yaml"
    path.write_text("tasks:\n  reports.work: {}\n  reports.wrok: {}\n")
    project = start_project(jobtastic_policy=str(path))
    worker = project.worker(concurrency=1)
    assert f"{path}:3:3: no task of this app fits `reports.wrok`" in worker.output()


def test_switched_off_a_worker_runs_each_message_as_celery_does(
    start_project: Any, unique: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And a producer that is not switched off waits for nobody: its call is run, too."""
    project = start_project()
    first = project.task("work").delay(unique)
    assert project.task("work").delay(unique).id == first.id
    close_runtime(project.app)
    monkeypatch.setenv("JOBTASTIC_ENABLED", "0")
    more = [project.task("work").delay(unique) for _ in range(2)]
    worker = project.worker(concurrency=1)
    values = [result.get(timeout=TIMEOUT) for result in (first, *more)]
    assert values == [values[0]] * 3
    assert project.runs("work", unique) == 3
    assert "jobtastic is switched off by JOBTASTIC_ENABLED=0" in worker.output()
