"""The watch on memory, in real workers: numbers, words, hook, signal, and what is left out."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from tests import leaky
from tests.integration.conftest import Project, wait_until
from tests.integration.test_cli import celery
from tests.workers import Worker

POLICY: dict[str, Any] = {
    "defaults": {"memleak_threshold": 20, "herd_avoidance_timeout": 0},
    "tasks": {
        "leaky.*": {},
        "leaky.shared": {
            "herd_avoidance_timeout": 60,
            "cache_duration": "10m",
            "significant_kwargs": ["x"],
        },
        "leaky.imports": {"memleak_threshold": 5},
        "leaky.traced": {"memleak_trace": 2},
        "leaky.recycled*": {"memleak_action": "recycle"},
        "leaky.other": {"memleak_threshold": -1, "herd_avoidance_timeout": 60},
    },
}

LINE = re.compile(
    r"WARNING/\S+\] (?P<task>\S+)\[(?P<id>[\w-]+)\] grew its process by (?P<growth>[\d.]+) MB, "
    r"from (?P<begin>[\d.]+) MB to (?P<end>[\d.]+) MB \(memleak_threshold: \d+\): (?P<rest>.*)"
)


class Watched:
    """A project with a worker whose tasks are watched."""

    def __init__(self, project: Project, **options: Any) -> None:
        self.project = project
        leaky.extend(project.app)
        self.worker: Worker = project.worker(app="tests.leaky", **options)
        #: Other workers hear what is asked without a name.
        [self.name] = set(re.findall(r"\bw\d+@test\b", self.worker.output()))

    def run(self, name: str, *args: Any, **kwargs: Any) -> Any:
        task = self.project.app.tasks[f"leaky.{name}"]
        return task.apply_async(args, kwargs)

    def lines(self, task_id: str) -> list[re.Match[str]]:
        found = (LINE.search(line) for line in self.worker.output().splitlines())
        return [match for match in found if match and match["id"] == task_id]

    def signals(self, task_id: str) -> list[dict[str, Any]]:
        return [x for x in self.project.notes.read(event="signal") if x["task_id"] == task_id]

    def told(self) -> dict[str, Any]:
        """What `celery inspect` shows of the worker."""
        inspect = self.project.app.control.inspect([self.name], timeout=5)
        return dict((inspect._request("jobtastic_memory") or {}).get(self.name, {}))

    def wait_for_runs(self, name: str, count: int) -> dict[str, Any]:
        def found() -> Any:
            told = self.told().get(f"leaky.{name}", {})
            return told if told.get("runs", 0) >= count else None

        return dict(wait_until(found, why=f"{count} runs of {name}"))


@pytest.fixture(scope="module")
def watched(start_project: Callable[..., Project]) -> Watched:
    return Watched(start_project(jobtastic_policy=POLICY), concurrency=1)


def test_the_line_agrees_with_what_the_kernel_tells_the_task(watched: Watched, unique: str) -> None:
    result = watched.run("keeps", unique, 60)
    result.get(timeout=60)
    [line] = wait_until(lambda: watched.lines(result.id))
    [note] = [x for x in watched.project.notes.read("keeps") if x["id"] == result.id]
    assert float(line["begin"]) == pytest.approx(note["before"], abs=1)
    assert float(line["end"]) == pytest.approx(note["after"], abs=1)
    assert float(line["growth"]) == pytest.approx(60, abs=1)
    assert f"args=('{unique}', 60) kwargs={{}}" in line["rest"]
    [told] = watched.signals(result.id)
    assert told["growth"] == pytest.approx(float(line["growth"]), abs=0.06)
    assert told["beginning_usage"] == pytest.approx(float(line["begin"]), abs=0.06)
    assert told["ending_usage"] == pytest.approx(float(line["end"]), abs=0.06)
    assert told["args"] == [unique, 60]
    assert (told["kind"], told["runs"]) == ("run", 1)


def test_growth_below_the_threshold_is_not_told(watched: Watched, unique: str) -> None:
    result = watched.run("keeps", unique, 10)
    result.get(timeout=60)
    watched.run("keeps", unique, 30).get(timeout=60)  # that it would be seen
    wait_until(
        lambda: watched.signals(result.id) or f"args=('{unique}', 30)" in (watched.worker.output())
    )
    assert not watched.signals(result.id)
    assert not watched.lines(result.id)


def test_arguments_are_masked_as_the_sender_asked(watched: Watched, unique: str) -> None:
    task = watched.project.app.tasks["leaky.keeps"]
    result = task.apply_async(
        (unique, 30), {"secret": "hunter2"}, argsrepr="(***)", kwargsrepr="{'secret': '***'}"
    )
    result.get(timeout=60)
    [line] = wait_until(lambda: watched.lines(result.id))
    assert line["rest"] == "args=(***) kwargs={'secret': '***'}"
    assert "hunter2" not in watched.worker.output()
    [told] = watched.signals(result.id)
    assert (told["argsrepr"], told["kwargsrepr"]) == ("(***)", "{'secret': '***'}")
    assert told["kwargs"] == {"secret": "hunter2"}  # as every signal of Celery gives them


def test_failures_and_each_attempt_of_a_retry_are_measured(watched: Watched, unique: str) -> None:
    failed = watched.run("fails", unique, 30)
    failed.get(timeout=20, propagate=False)
    wait_until(lambda: len(watched.lines(failed.id)) == 1)
    retried = watched.run("retries", unique, 30)
    retried.get(timeout=60)
    wait_until(lambda: len(watched.lines(retried.id)) == 3)


def test_a_task_with_a_hook_is_called_instead(watched: Watched, unique: str) -> None:
    result = watched.run("warned", unique, mb=30)
    [note] = wait_until(
        lambda: [x for x in watched.project.notes.read(event="warned") if x["id"] == result.id]
    )
    growth, begin, end = note["numbers"]
    assert growth == pytest.approx(30e6, abs=2e6), "bytes, as in the jobtastic library"
    assert end - begin == pytest.approx(growth, abs=2)
    assert note["kwargs"] == {"mb": 30}
    result.get(timeout=60)  # the hook raised: the task's own outcome is untouched
    wait_until(lambda: watched.signals(result.id))
    assert not watched.lines(result.id)
    assert "leaky.warned: its warn_of_memory_leak failed" in watched.worker.output()


def test_a_large_import_is_no_leak_but_does_not_hide_one(watched: Watched, unique: str) -> None:
    first = watched.run("imports", unique, "mypy.build")
    line = f"leaky.imports[{first.id}] grew its process by"
    wait_until(lambda: line in watched.worker.output())
    assert not watched.signals(first.id)
    assert "while it imported" in watched.worker.output()
    second = watched.run("imports", unique, "imaplib", 60)
    wait_until(lambda: watched.signals(second.id))
    wait_until(lambda: "it imported" in watched.lines(second.id)[0]["rest"])


def test_calls_that_share_a_run_are_not_runs(start_project: Any, unique: str) -> None:
    """A message that follows ends with Ignore; one that is answered from the cache succeeds."""
    watched = Watched(start_project(jobtastic_policy=POLICY), concurrency=2)
    task = watched.project.app.tasks["leaky.shared"]
    results = [task.apply_async((unique,), task_id=f"{unique}-{n}") for n in range(6)]
    assert {result.get(timeout=30) for result in results} == {unique}
    task.apply_async((unique,), task_id=f"{unique}-cached").get(timeout=60)
    assert watched.project.runs("shared", unique) == 1
    watched.run("keeps", unique).get(timeout=60)
    watched.wait_for_runs("keeps", 1)
    assert watched.told()["leaky.shared"]["runs"] == 1


def test_inspect_shows_what_the_children_saw(start_project: Any, unique: str) -> None:
    watched = Watched(start_project(jobtastic_policy=POLICY), concurrency=2)
    for n in range(6):
        watched.run("keeps", f"{unique}-{n}", 30 if n == 3 else 0).get(timeout=60)
    told = watched.wait_for_runs("keeps", 6)
    assert told["runs"] == 6
    assert 30 < told["growth"] < 50
    assert told["largest_growth"] == pytest.approx(30, abs=2)
    assert told["reports"] == 1
    assert told["last_report"]["kind"] == "run"
    assert told["last_report"]["growth"] == pytest.approx(30, abs=2)
    assert {int(pid) for pid in told["trend"]} <= set(watched.worker.children())
    assert "leaky.other" not in watched.told()  # its threshold is off
    done = celery(watched.project, "inspect", "jobtastic_memory", "--json", "-d", watched.name)
    assert done.returncode == 0, done.stderr
    [shown] = json.loads(done.stdout).values()
    assert shown["leaky.keeps"]["runs"] == 6


def test_a_worker_without_a_threshold_measures_nothing(start_project: Any, unique: str) -> None:
    """Handlers of `task_prerun` cost a microsecond each: there must be none."""
    watched = Watched(start_project(), concurrency=1)
    assert watched.told() == {"error": "no task of this worker has a `memleak_threshold`"}


def test_tracing_names_the_line_that_holds_the_memory(start_project: Any, unique: str) -> None:
    watched = Watched(start_project(jobtastic_policy=POLICY), concurrency=1)
    for n in range(8):
        watched.run("traced", f"{unique}-{n}", 0.5).get(timeout=60)
    line = "leaky.traced: new memory is held by "
    wait_until(lambda: line in watched.worker.output())
    [shown] = [x for x in watched.worker.output().splitlines() if line in x]
    body = leaky.filled.__code__
    # And not the result, which is gone by the time that counts.
    assert f"{body.co_filename}:{body.co_firstlineno + 1} (0.5 MB)" in shown
    assert shown.endswith(")")
