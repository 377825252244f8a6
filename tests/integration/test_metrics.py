"""What Prometheus is told: by the caller, and by a prefork worker for all its children."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from jobtastic_ext import signals
from jobtastic_ext.contrib.prometheus import install, uninstall
from jobtastic_ext.decisions import CALLS, MESSAGES, OUTCOMES
from jobtastic_ext.testing.server import free_port
from tests.integration.conftest import POLICY, Project, wait_until

TIMEOUT = 30


@pytest.fixture(scope="module")
def port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def project(
    start_project: Callable[..., Project], tmp_path_factory: pytest.TempPathFactory, port: int
) -> Iterator[Project]:
    project = start_project(jobtastic_policy=POLICY)
    folder = tmp_path_factory.mktemp("prometheus")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PROMETHEUS_MULTIPROC_DIR", str(folder))
        patch.setenv("METRICS_PORT", str(port))
        project.worker(app="tests.measured", concurrency=6)
    yield project
    assert len(list(Path(folder).glob("counter_*.db"))) > 1  # of several processes


@pytest.fixture
def registry(project: Project, monkeypatch: pytest.MonkeyPatch) -> Iterator[CollectorRegistry]:
    """The caller's own."""
    monkeypatch.setattr("jobtastic_ext.contrib.saved.PAUSE", 0.1)
    registry = CollectorRegistry()
    install(project.app, registry=registry)
    install(project.app, registry=registry)
    yield registry
    uninstall(project.app, registry=registry)
    assert list(registry.collect()) == []
    assert not signals.call_joined.receivers


Sample = Callable[..., float]


@pytest.fixture
def caller(registry: CollectorRegistry) -> Sample:
    def read(name: str, **labels: str) -> float:
        return registry.get_sample_value(f"jobtastic_{name}", labels) or 0.0

    return read


@pytest.fixture
def worker(port: int) -> Sample:
    def read(name: str, **labels: str) -> float:
        with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
            text = answer.read().decode()
        return sum(
            sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == f"jobtastic_{name}" and sample.labels.items() >= labels.items()
        )

    return read


def test_counts_are_those_of_the_calls_and_the_runs(
    project: Project, caller: Sample, worker: Sample, unique: str
) -> None:
    cached = project.task("cached")
    with project.gate(unique) as gate:
        results = [cached.delay(f"{unique} {n % 6}", gate=gate) for n in range(30)]
        wait_until(lambda: len(project.notes.read("cached")) == 6)
        time.sleep(0.5)
    for result in results:
        result.get(timeout=TIMEOUT)
    wait_until(lambda: all(project.claim("cached", f"{unique} {n}").value for n in range(6)))
    assert cached.delay(f"{unique} 0").decision == "cached"
    name = "reports.cached"
    decided = {
        each.word: caller("calls_total", task=name, decision=each.word)
        for each in CALLS
        if caller("calls_total", task=name, decision=each.word)
    }
    assert decided == {"published": 6, "joined": 24, "cached": 1}

    wait_until(lambda: worker("run_duration_seconds_count", task=name, outcome="succeeded") == 6)
    assert worker("messages_total", task=name, decision="started") == 6
    assert worker("run_wait_seconds_count", task=name) == 6
    assert 3.0 <= worker("run_duration_seconds_sum", task=name) < 60
    saved = wait_until(lambda: caller("saved_seconds_total", task=name))
    wait_until(lambda: caller("saved_seconds_total", task=name) >= 25 * 0.5)
    assert saved < 25 * 30


def test_a_failure_and_a_stale_answer(
    project: Project, caller: Sample, worker: Sample, unique: str
) -> None:
    fails, brief = project.task("fails"), project.task("brief")
    failed = fails.delay(unique)
    wait_until(lambda: failed.state == "FAILURE")
    wait_until(
        lambda: worker("run_duration_seconds_count", task="reports.fails", outcome="failed") == 1
    )
    brief.delay(unique).get(timeout=TIMEOUT)
    wait_until(lambda: brief.delay(unique).decision == "stale")
    assert caller("calls_total", task="reports.brief", decision="stale") == 1
    assert caller("calls_total", task="reports.brief", decision="refreshed") == 0


def test_labels_are_of_policy_tasks_and_known_words_and_no_argument_is_one(
    project: Project, registry: CollectorRegistry, port: int, unique: str
) -> None:
    project.task("plain").delay(unique).get(timeout=TIMEOUT)
    project.task("plain").delay_or_fail(unique).get(timeout=TIMEOUT)
    project.task("work").delay(unique).get(timeout=TIMEOUT)
    with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
        served = list(text_string_to_metric_families(answer.read().decode()))
    allowed = {
        "task": set(POLICY["tasks"]),
        "decision": {each.word for each in (*CALLS, *MESSAGES)},
        "outcome": {each.word for each in OUTCOMES},
    }
    seen = 0
    for family in (*registry.collect(), *served):
        for sample in family.samples:
            for label, value in sample.labels.items():
                if label != "le":
                    seen += 1
                    assert value in allowed[label], (family.name, label, value)
    assert seen
