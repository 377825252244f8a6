"""docs/operations.md, as an operator follows it: each command, on a worker with a stuck task."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery
from celery.exceptions import TaskRevokedError
from celery.result import AsyncResult
from click.testing import CliRunner

from jobtastic_ext.claims.header import foreign_key
from jobtastic_ext.claims.records import ClaimCall
from jobtastic_ext.cli import jobtastic as jobtastic_command
from jobtastic_ext.counts.words import DECISIONS, EVENTS, SHADOW, WORDS
from jobtastic_ext.keys.call_key import keys_head
from jobtastic_ext.runtime import close_runtime, runtime_of
from tests.integration.conftest import Project, wait_until
from tests.workers import ROOT, Worker

TIMEOUT = 60

PAGE = (ROOT / "docs" / "operations.md").read_text()

#: Commands and what they print, in the order of the page.
BLOCKS = re.findall(r"```console\n\$ celery -A shop ([^\n]*)\n(.*?)```", PAGE, re.DOTALL)

#: What differs each time.
VARYING = {
    r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}": "ID",
    r"jobtastic:shop:[0-9a-f]+:shop\.report:[0-9a-f]{32}": "KEY",
    r"-?\b[0-9]+\.[0-9]+": "N",
    r"\bw[0-9]+@\w+": "WORKER",
    r"(holder|value): .*": r"\1: …",
    r" +": " ",
}


def plain(text: str) -> list[str]:
    for pattern, word in VARYING.items():
        text = re.sub(pattern, word, text)
    return [line.strip() for line in text.strip().splitlines()]


@pytest.fixture
def folder(redis_server: Any, tmp_path: Path) -> Path:
    """The project of the page, on servers of its own."""
    found = re.findall(r"```(?:python|yaml)\n# (\S+)\n(.*?)```", PAGE, re.DOTALL)
    assert [name for name, _ in found] == ["shop.py", "jobtastic.yaml"]
    for name, text in found:
        for db in (0, 1):
            text = text.replace(f"redis://localhost/{db}", redis_server.url(db + 8))
        text = text.replace('app.steps["', 'app.conf.task_default_queue = "shop"\napp.steps["')
        (tmp_path / name).write_text(text)
    return tmp_path


@pytest.fixture
def shop(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.chdir(folder)
    spec = importlib.util.spec_from_file_location("shop", folder / "shop.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    close_runtime(module.app)
    module.app.close()


def of(stuck: AsyncResult, command: str) -> str:
    """The same command for the task that is stuck here."""
    return re.sub(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", stuck.id, command)


def typed(folder: Path, command: str) -> str:
    """Run a command as an operator types it."""
    done = subprocess.run(
        ["sh", "-c", f"exec {sys.executable} -W ignore -m celery -A shop {command}"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


def test_a_stuck_task_is_found_explained_and_let_go(folder: Path, shop: Any) -> None:
    blocks = iter(BLOCKS)
    with Worker({}, app="shop", concurrency=2, folder=folder) as worker:
        first = [shop.report.delay("february") for _ in range(4)]
        assert first[3].get(timeout=TIMEOUT) == "february"
        assert [shop.report.delay("february").decision for _ in range(2)] == ["cached"] * 2
        desk = runtime_of(shop.app).desk
        wait_until(lambda: desk.savings()[0].runs == 1)
        command, expected = next(blocks)
        assert plain(typed(folder, command)) == plain(expected)
        command, expected = next(blocks)
        told = typed(folder, command)
        assert plain(told)[:31] == plain(expected)[:31]
        assert [each["task"] for each in json.loads(told)] == ["shop.report", "shop.send_mail"]

        stuck = shop.report.delay("march", pause=600)
        wait_until(lambda: any(one.state == "running" and one.age > 2 for one in desk.claims()))
        joined, slots = shop.report.delay("march"), set(worker.children())
        assert joined.id == stuck.id
        *blocks, (terminate, ended) = blocks
        for command, expected in blocks:
            assert plain(typed(folder, of(stuck, command))) == plain(expected), command

        assert list(desk.claims()) == []
        again = shop.report.delay("march", pause=0)
        assert again.get(timeout=TIMEOUT) == "march"
        assert again.id != stuck.id
        assert joined.get(timeout=TIMEOUT) == "march"
        # Older Celery says less of what it has ended.
        assert plain(typed(folder, of(stuck, terminate)))[0] == plain(ended)[0]
        wait_until(lambda: len(slots & set(worker.children())) == 1)
        assert shop.app.AsyncResult(stuck.id).state == "SUCCESS"

        stuck = shop.report.delay("april", pause=600)
        wait_until(
            lambda: any(one.id == stuck.id and one.state == "running" for one in desk.claims())
        )
        typed(folder, of(stuck, terminate))
        with pytest.raises(TaskRevokedError):
            stuck.get(timeout=TIMEOUT)
        assert shop.report.delay("april", pause=0).get(timeout=TIMEOUT) == "april"


def test_every_word_is_told_on_the_page() -> None:
    told = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", PAGE, re.MULTILINE))
    meanings = {**DECISIONS, **EVENTS, **SHADOW}
    assert told == {"runs" if word == "ran" else word: meanings[word] for word in WORDS}


# The commands, one by one


def ask(app: Celery, *words: str, **options: Any) -> Any:
    """Run a command in this process."""
    return CliRunner().invoke(jobtastic_command, words, obj=SimpleNamespace(app=app), **options)


@pytest.fixture(params=["redis", "sqlite", "memory"])
def idle(request: pytest.FixtureRequest, start_project: Callable[..., Project]) -> Project:
    """A project without a worker."""
    if request.param == "memory":
        return start_project(jobtastic_store=f"memory://{id(request)}")
    return start_project(request.param)


def listed(project: Project, *words: str) -> list[dict[str, Any]]:
    done = ask(project.app, "claims", "--json", *words)
    assert done.exit_code == 0, done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def test_claims_are_chosen(idle: Project, unique: str) -> None:
    assert listed(idle) == []
    work: AsyncResult = idle.task("work").delay(unique)
    cached: AsyncResult = idle.task("cached").delay(unique)
    assert {one["id"] for one in listed(idle)} == {work.id, cached.id}
    (one,) = listed(idle, "--task", "*.work")
    assert (one["task"], one["state"], one["worker"]) == ("reports.work", "queued", "")
    assert 0 < one["deadline"] <= 2
    assert not one["overdue"]
    assert [one["id"] for one in listed(idle, "--state", "queued", "--task", "*.c*")] == [cached.id]
    assert listed(idle, "--state", "running") == listed(idle, "--state", "waiting") == []
    assert listed(idle, "--older", "1h") == []
    wait_until(lambda: len(listed(idle, "--overdue")) == 2)
    assert len(listed(idle, "--older", "1.5s")) == 2
    assert unique not in ask(idle.app, "claims").stdout, "arguments are not known"


@pytest.mark.parametrize("prefix", ["{shop}:prod", "shop-" + 63 * "x"])
def test_claims_are_found_under_any_prefix(
    start_project: Callable[..., Project], prefix: str, unique: str
) -> None:
    idle = start_project(jobtastic_key_prefix=prefix)
    sent = idle.task("cached").delay(unique)
    assert [one["id"] for one in listed(idle)] == [sent.id]
    told = ask(idle.app, "explain", "--id", sent.id).stdout
    (key,) = re.findall("^key: (.*)$", told, re.MULTILINE)
    assert foreign_key({"id": "a", "key": key}, keys_head(prefix), "a") == ""
    assert ask(idle.app, "forget", "--task", "reports.cached").exit_code == 0
    assert listed(idle) == []


def test_many_are_forgotten_only_if_somebody_says_so(idle: Project, unique: str) -> None:
    for n in range(101):
        idle.task("work").delay(f"{unique}{n}")
    other = idle.task("cached").delay(unique)
    refused = ask(idle.app, "forget", "--task", "reports.w*", input="n\n")
    assert refused.exit_code == 1
    assert "forget 101 calls?" in refused.stdout
    piped = ask(idle.app, "forget", "--task", "reports.w*", "--json", input="n\n")
    assert ("forget 101 calls?" in piped.stderr, piped.stdout.strip()) == (True, "")
    assert len(listed(idle)) == 102
    done = ask(idle.app, "forget", "--task", "reports.w*", "--yes")
    assert (done.exit_code, done.stdout) == (0, "forgotten: 101 calls\n")
    assert [one["id"] for one in listed(idle)] == [other.id]
    assert ask(idle.app, "forget", "--id", "nobody").exit_code == 1
    done = ask(idle.app, "forget", "--id", other.id, "--json")
    assert json.loads(done.stdout) == {"forgotten": 1}
    assert idle.task("cached").delay(unique).id != other.id


def test_a_result_is_forgotten_by_the_id_of_its_run(either: Project, unique: str) -> None:
    cached = either.task("cached")
    first = cached.delay(unique)
    first.get(timeout=TIMEOUT)
    wait_until(lambda: [one["id"] for one in listed(either, "--state", "done")] == [first.id])
    assert listed(either) == []
    told = ask(either.app, "explain", "--id", first.id).stdout
    assert f"task {first.id} ended" in told
    assert "identical calls are given its result for 10.0m" in told or "for 600" in told
    (key,) = re.findall("^key: (.*)$", told, re.MULTILINE)
    assert ask(either.app, "forget", "--key", key).exit_code == 0
    assert cached.delay(unique).decision == "published"


def test_who_waits_for_a_run(either: Project, unique: str) -> None:
    turns = either.task("turns")
    with either.gate(unique) as gate:
        results = [turns.delay(unique, gate=gate) for _ in range(3)]
        (one,) = wait_until(lambda: [each for each in listed(either) if each["waiting"] == 2])
        assert listed(either, "--state", "waiting")[0]["id"] == one["id"]
        assert one["worker"].endswith("@test")
        assert "waiting for it: 2" in ask(either.app, "explain", "--key", one["key"]).stdout
    for result in results:
        result.get(timeout=TIMEOUT)


def test_what_is_asked_wrongly(idle: Project) -> None:
    for words in (["forget"], ["forget", "--id", "a", "--key", "b"], ["explain"]):
        assert ask(idle.app, *words).exit_code == 2
    wrong = ask(idle.app, "claims", "--older", "soon")
    assert "'soon' is no length of time; write such as 90s, 10m, 6h, 7d" in wrong.stderr
    assert "nothing is held under x" in ask(idle.app, "explain", "--key", "x").stderr


def test_a_warning_where_others_wait_too_short(start_project: Callable[..., Project]) -> None:
    policy = {"tasks": {"reports.work": {"herd_avoidance_timeout": 0.1}}}
    project = start_project(jobtastic_policy=policy)
    project.worker(concurrency=1)
    project.task("work").delay(1, delay=0.5).get(timeout=TIMEOUT)
    desk = wait_until(lambda: runtime_of(project.app)).desk
    wait_until(lambda: desk.savings()[0].warnings)
    told = ask(project.app, "savings")
    takes = re.search(r"warning: reports.work: a run takes ([\d.]+) s", told.stderr)
    assert takes is not None
    assert float(takes[1]) >= 0.5
    assert "wait for it only 0.1 s" in told.stderr


def test_a_task_that_is_gone_is_named_by_its_key(idle: Project) -> None:
    runtime = runtime_of(idle.app)
    assert runtime is not None
    key = f"{runtime.settings.key_prefix}:shop.old%20task:{'0' * 32}"
    runtime.store.apply(key, ClaimCall(task_id="a", gen="g", hold=60_000))
    assert [one["task"] for one in listed(idle)] == ["shop.old task"]
    with closing(runtime.store):
        assert ask(idle.app, "forget", "--task", "shop.*").exit_code == 0
