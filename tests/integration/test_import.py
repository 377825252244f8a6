"""The example projects of other libraries: imported as they are, and run after the move."""

from __future__ import annotations

import functools
import importlib.util
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from celery import Celery, _state
from click.testing import CliRunner

from jobtastic_ext import DuplicateCall, JobtasticStep
from jobtastic_ext.cli import jobtastic as command
from jobtastic_ext.migration.collected import Collected
from jobtastic_ext.migration.found import Found
from jobtastic_ext.migration.writing import policy_text
from jobtastic_ext.policy.loader import load_policy
from jobtastic_ext.runtime import close_runtime
from tests.untried import missing
from tests.workers import Worker

HERE = Path(__file__).parent / "peers"

#: The file of each library's example, and what pip calls the library.
EXAMPLES = {"once": "celery_once", "singleton": "celery_singleton", "heimdall": "celery_heimdall"}


def load(path: Path, name: str) -> ModuleType:
    """Import an example into an app of its own, which is its module `project`."""
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    project: Any = ModuleType("project")
    project.app = Celery(name, set_as_current=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "project", project)
        # Celery gives the tasks of one app to every other.
        patch.setattr(_state, "_on_app_finalizers", set(_state._on_app_finalizers))
        spec.loader.exec_module(module)
        project.app.finalize()
    return module


def run_import(app: Celery, *words: str) -> Any:
    done = CliRunner().invoke(command, ["import", *words], obj=SimpleNamespace(app=app))
    assert done.exit_code == 0, done.output
    return done


def celery_once() -> Any:
    return pytest.importorskip("celery_once")


@functools.cache
def example(name: str) -> ModuleType:
    if importlib.util.find_spec(EXAMPLES[name]) is None:
        missing(f"{EXAMPLES[name]} is not installed", module=EXAMPLES[name])
    return load(HERE / f"{name}_example.py", f"{name}_example")


#: What becomes of the examples, word for word.
MEANT: dict[str, dict[str, Any]] = {
    "once": {
        "once_example.slow_task": {"herd_avoidance_timeout": "30m", "on_duplicate": "raise"},
        "once_example.slow_add": {
            "significant_kwargs": ["a"],
            "herd_avoidance_timeout": "30m",
            "on_duplicate": "join",
        },
        "once_example.one_at_all": {
            "significant_kwargs": [],
            "herd_avoidance_timeout": "10h",
            "on_duplicate": "raise",
        },
        "once_example.rerunnable": {
            "herd_avoidance_timeout": "30m",
            "on_duplicate": "join",
            "unique_until": "start",
        },
    },
    "singleton": {
        "singleton_example.do_stuff": {
            "herd_avoidance_timeout": "forever",
            "on_duplicate": "join",
        },
        "singleton_example.do_something": {
            "significant_kwargs": ["username"],
            "herd_avoidance_timeout": 10,
            "on_duplicate": "raise",
        },
    },
    "heimdall": {
        "heimdall_example.generate_report": {
            "herd_avoidance_timeout": "1h",
            "on_duplicate": "join",
        },
        "heimdall_example.raising_report": {"herd_avoidance_timeout": 90, "on_duplicate": "raise"},
        "heimdall_example.any_report": {
            "significant_kwargs": [],
            "cache_prefix": "one report",
            "herd_avoidance_timeout": "1h",
            "on_duplicate": "join",
        },
        "heimdall_example.hourly_report": {
            "herd_avoidance_timeout": "1h",
            "on_duplicate": "join",
            "unique_for": "1h",
        },
    },
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_what_a_library_was_told_becomes_a_policy(name: str, tmp_path: Path) -> None:
    module = example(name)
    told = json.loads(run_import(module.app, "--json").stdout)
    assert told["policy"]["tasks"] == MEANT[name]
    assert {task["library"] for task in told["tasks"]} == {EXAMPLES[name].replace("_", "-")}
    assert all(f"{name}_example.py:" in task["place"] for task in told["tasks"])
    steps = "\n".join(told["steps"])
    assert "DuplicateCall" in steps
    assert 'app.steps["worker"].add(JobtasticStep)' in steps
    # What is printed is a policy file, comments and all, and what is written is the same.
    printed = run_import(module.app).stdout
    (tmp_path / "printed.yaml").write_text(printed)
    run_import(module.app, "--write", str(tmp_path / "written.yaml"))
    sets = [load_policy(tmp_path / f"{way}.yaml") for way in ("printed", "written")]
    assert [set(policies.patterns) for policies in sets] == [{*MEANT[name]}] * 2
    again = CliRunner().invoke(
        command,
        ["import", "--write", str(tmp_path / "written.yaml")],
        obj=SimpleNamespace(app=module.app),
    )
    assert again.exit_code == 1
    assert "is not written: File exists" in again.stderr


def test_what_has_no_equal_is_said() -> None:
    printed = run_import(example("heimdall").app).stdout
    assert "its rate limit for all workers together has no equal" in printed
    assert "  # heimdall_example.limited: no policy" in printed
    assert "pip uninstall" not in printed, "it is needed for the rate limit"
    app = Celery("more", set_as_current=False)

    @app.task(base=celery_once().QueueOnce, once={"unlock_before_run": True}, shared=False)
    def early(a: int) -> None: ...

    @app.task(base=celery_once().QueueOnce, once={"keys": ["b"], "colour": 7}, shared=False)
    def odd(a: int) -> None: ...

    class Mine(celery_once().QueueOnce):  # type: ignore[misc]
        abstract = True

    @app.task(base=Mine, once={"keys": ["a"]}, shared=False)
    def derived(a: int) -> None: ...

    printed = " ".join(run_import(app).stdout.replace("#", "").split())
    assert "unique_until: start" in printed
    assert "significant_kwargs: [b] is left out, so every argument counts" in printed
    assert "significant_kwargs: [a]" in printed
    assert f"delete base=QueueOnce, once={{…}} of {odd.name}" in printed
    assert f"delete QueueOnce as a base of Mine, once={{…}} of {derived.name}" in printed
    app.conf.update(broker_url="memory://", result_backend="cache+memory://")
    app.conf.jobtastic_policy = json.loads(run_import(app, "--json").stdout)["policy"]
    app.steps["worker"].add(JobtasticStep)
    checked = CliRunner().invoke(command, ["check"], obj=SimpleNamespace(app=app))
    close_runtime(app)
    assert checked.exit_code == 1, "steps 3 and 5 of the page without step 4"
    assert f"{odd.name} still has celery-once's base class, so both locks hold" in checked.stderr
    assert "b is no parameter of the task; every call failed" in printed
    assert "colour: 7 has no equal" in printed


def test_a_field_that_this_version_lacks_is_a_remark_and_the_file_still_loads(
    tmp_path: Path,
) -> None:
    found = [
        Found(task="a.d", library="celery-once", fields={"no_such_field": "x"}),
    ]
    text = policy_text(Collected(found=found, unread=[], steps=[]))
    assert "# no_such_field: x is not in this version" in text
    (tmp_path / "jobtastic.yaml").write_text(text)
    load_policy(tmp_path / "jobtastic.yaml")


def test_an_app_that_uses_none_of_them_is_told_so() -> None:
    app = Celery("plain", set_as_current=False)
    done = CliRunner().invoke(command, ["import"], obj=SimpleNamespace(app=app))
    assert done.exit_code == 1
    assert "--source ." in done.stderr


def test_jobtastic_is_read_from_its_source() -> None:
    """No Celery of today can import it: `celery.task` is gone since Celery 5."""
    app = Celery("plain", set_as_current=False)
    told = json.loads(run_import(app, "--json", "--source", str(HERE / "jobtastic_example")).stdout)
    assert told["policy"]["tasks"] == {
        "my_app.tasks.LotsOfDivisionTask": {
            "significant_kwargs": [["numerators", "str"], ["denominators", "str"]],
            "herd_avoidance_timeout": "1m",
            "cache_duration": "forever",
        },
        "my_app.leaky.LeakyTask": {
            "significant_kwargs": [["bloat_factor", "my_app.keys:rounded"], "mood"],
            "herd_avoidance_timeout": "5m",
            "memleak_threshold": 10,
        },
    }
    (leaky,) = (task for task in told["tasks"] if task["task"].endswith("LeakyTask"))
    remarks = "\n".join(leaky["remarks"])
    assert "mood was converted by `lambda mood: mood.lower()`; make it a function" in remarks
    assert "cache_duration is `settings.HOUR`: write what that is" in remarks
    assert "warn_of_memory_leak is called as before, with bytes" in remarks
    assert leaky["place"].endswith("my_app/leaky.py:22")


def test_source_of_another_age_is_told_of_and_not_run(tmp_path: Path) -> None:
    (tmp_path / "old.py").write_text('print "jobtastic"\n')
    (tmp_path / "new.py").write_text(
        "from jobtastic import JobtasticTask as Base\nclass A(Base):\n"
        "    name = 'a.task'\n    significant_kwargs = (('x', 5),)\n"
        "    herd_avoidance_timeout = 7\nraise SystemExit('it is only read')\n"
    )
    done = run_import(Celery("plain", set_as_current=False), "--source", str(tmp_path))
    assert f"no Python of today: {tmp_path / 'old.py'}" in done.stderr
    assert "x was converted by `lambda: 5`" in done.stdout
    assert "  a.task:\n    significant_kwargs: [x]\n    herd_avoidance_timeout: 7" in done.stdout


#: What the pages *Coming from …* say is deleted and changed, as patterns.
CHANGES = {
    r"from celery_\w+ import .*\n": "",
    r"(from|import) jobtastic( import JobtasticTask)?\b": "from celery import Task",
    r"(jobtastic\.)?JobtasticTask": "Task",
    r"calculate_result": "run",
    r"base=\w+(, )?": "",
    r"(once|heimdall)=\{[^}]*\}(, )?": "",
    r"(unique_on|lock_expiry|raise_on_duplicate)=[^,)]+(, )?": "",
    r"app\.conf\.ONCE = \{(.|\n)*?\n\}\n": "",
    r"    significant_kwargs = \[\n(.*\n)*?    \]\n": "",
    r"    (herd_avoidance_timeout|cache_duration|memleak_threshold) = .*\n": "",
}

PROJECT = """
import json, os
from celery import Celery
from jobtastic_ext import JobtasticStep

app = Celery("project", set_as_current=False)
app.conf.update(json.loads(os.environ["JOBTASTIC_TEST_CONF"]))
app.steps["worker"].add(JobtasticStep)

from my_app.tasks import LotsOfDivisionTask
lots = app.register_task(LotsOfDivisionTask())
"""


def moved(path: Path) -> str:
    """Return a file as it is after the move."""
    text = path.read_text()
    for pattern, replacement in CHANGES.items():
        text = re.sub(pattern, replacement, text)
    assert not re.search(r"celery_once|Singleton|Heimdall|Jobtastic", text), text
    return text


@pytest.fixture(scope="module")
def after(redis_server: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleType]:
    """All examples after the move, in one app, under the policies that were imported for them."""
    folder = tmp_path_factory.mktemp("after")
    texts = [run_import(example(name).app).stdout for name in EXAMPLES]
    words = ("--source", str(HERE / "jobtastic_example"))
    texts.append(run_import(Celery("plain", set_as_current=False), *words).stdout)
    rules = [text.partition("tasks:\n")[2].partition("\n# What")[0] for text in texts]
    (folder / "jobtastic.yaml").write_text("tasks:\n" + "\n".join(rules))
    for path in HERE.rglob("*.py"):
        place = folder / path.relative_to(HERE / ("jobtastic_example" * ("my_app" in path.parts)))
        place.parent.mkdir(exist_ok=True)
        place.write_text(moved(path))
    (folder / "project.py").write_text(PROJECT)
    conf = {
        "broker_url": redis_server.url(0),
        "result_backend": redis_server.url(1),
        "task_default_queue": "after-the-move",
        "jobtastic_policy": str(folder / "jobtastic.yaml"),
        "jobtastic_key_prefix": "after-the-move",
        "include": [f"{name}_example" for name in EXAMPLES],
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JOBTASTIC_TEST_CONF", json.dumps(conf))
        patch.setenv("PYTHONPATH", str(folder))
        patch.syspath_prepend(str(folder))
        patch.setattr(_state, "_on_app_finalizers", set(_state._on_app_finalizers))
        project = importlib.import_module("project")
        project.app.loader.import_default_modules()
        project.app.finalize()
        project.start = lambda: Worker(conf, app="project", concurrency=1)  # type: ignore[attr-defined]
        yield project
        close_runtime(project.app)
        project.app.close()
        for name in ("project", "my_app", "my_app.tasks", *conf["include"]):
            sys.modules.pop(name, None)


def test_the_examples_run_under_the_policies_that_were_imported(after: Any) -> None:
    """What each library promises holds without it: calls are made first, and then a worker."""
    tasks = after.app.tasks

    def task(name: str) -> Any:
        return next(task for full, task in tasks.items() if full.endswith(f"_example.{name}"))

    slow, stuff, report = task("slow_task"), task("do_stuff"), task("generate_report")
    results = [slow.delay(), task("slow_add").delay(1, 1), task("slow_add").delay(2, 1)]
    with pytest.raises(DuplicateCall) as refused:
        slow.delay()
    assert refused.value.task_id == results[0].id
    assert task("slow_add").delay(a=1, b=7).id == results[1].id, "only `a` tells calls apart"
    results.append(task("one_at_all").delay(1, 1))
    with pytest.raises(DuplicateCall):
        task("one_at_all").delay(2, 2)

    results += [stuff.delay(1, 2, 3, a="b"), stuff.delay(4)]
    assert stuff.delay(1, 2, 3, a="b").id == results[-2].id
    results.append(task("do_something").delay("bob", 99))
    with pytest.raises(DuplicateCall):
        task("do_something").delay(username="bob", otherarg=100)

    results += [report.delay(7), task("raising_report").delay(7), task("any_report").delay(7)]
    assert report.delay(7).id == results[-3].id
    with pytest.raises(DuplicateCall):
        task("raising_report").delay(7)
    assert task("any_report").delay(8).id == results[-1].id
    results += [task("rerunnable").delay(1), task("hourly_report").delay(7)]
    assert task("rerunnable").delay(1).id == results[-2].id

    division = {"numerators": [0, 2, 4], "denominators": [1, 2, 3]}
    results.append(after.lots.delay_or_fail(**division))
    assert after.lots.delay(**division, colour="green").id == results[-1].id

    with after.start() as worker:
        values = [result.get(timeout=30) for result in results]
        assert values[:4] == ["Done!", 2, 3, 2], worker.output()
        assert values[4:7] == [4, 1, "bob with 99"]
        assert values[7:] == [*["report of 7"] * 3, 1, "report of 7", [0.0, 1.0, 4 / 3]]
        assert task("hourly_report").delay(7).id == results[-2].id, "no second one within the hour"
        assert slow.delay().get(timeout=30) == "Done!", "it is free again after its run"
        assert after.lots.delay(**division).id == results[-1].id, "it is cached"
