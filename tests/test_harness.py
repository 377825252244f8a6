"""The fixture `jobtastic` of the pytest plugin, as people use it in their own tests."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from celery import Celery, chord, group
from celery.app.task import Task

from jobtastic_ext import ConfigurationError, DuplicateCall, PolicyError
from jobtastic_ext.runtime import runtime_of
from tests.workers import ROOT

POLICY: dict[str, Any] = {
    "tasks": {
        "shop.bill": {"significant_kwargs": ["customer"], "cache_duration": "1m"},
        "shop.fails": {},
        "shop.alone": {"on_duplicate": "raise"},
    }
}


@pytest.fixture(scope="module")
def app() -> Any:
    """A project's app: its servers are nowhere, and it lacks the step."""
    app = Celery("shop", broker="redis://localhost:1", backend="redis://localhost:1")
    app.conf.task_always_eager = True

    @app.task(name="shop.bill", bind=True, shared=False)
    def bill(self: Any, customer: str, greeting: str = "") -> str:
        self.update_progress(1, 2)
        return f"{greeting}{customer}"

    @app.task(name="shop.fails", shared=False, autoretry_for=(OSError,), max_retries=1)
    def fails(x: int) -> None:
        raise OSError("no")

    @app.task(name="shop.alone", shared=False)
    def alone(x: int) -> int:
        return x

    @app.task(name="shop.plain", shared=False)
    def plain(x: int) -> int:
        return sum(bill.delay(str(x)).id is not None for _ in range(3))

    yield app
    app.close()


@pytest.fixture
def bill(app: Celery) -> Any:
    return app.tasks["shop.bill"]


def test_identical_calls_run_once_and_then_are_cached(jobtastic: Any, app: Any, bill: Any) -> None:
    jobtastic.policy(app, POLICY)
    first, again = bill.delay("ann"), bill.delay(customer="ann", greeting="dear ")
    jobtastic.assert_joined(first, again)
    with pytest.raises(
        AssertionError, match=r"not one: .*: customer = 'ann', but customer = 'bob'"
    ):
        jobtastic.assert_joined(first, bill.delay("bob"))
    assert first.state == "PENDING"
    jobtastic.assert_runs(bill, 2)
    assert again.get(timeout=1) == "ann"
    jobtastic.tick(59)
    jobtastic.assert_joined(first, bill.delay("ann"))
    jobtastic.assert_runs("shop.bill", 2)
    jobtastic.tick(2)
    assert bill.delay("ann").id != first.id
    with pytest.raises(AssertionError, match=r"shop\.bill ran 3 times, and not 2"):
        jobtastic.assert_runs(bill, 2)


def test_each_test_begins_clean(jobtastic: Any, app: Any, bill: Any) -> None:
    jobtastic.policy(app, POLICY)
    assert jobtastic.run() == 0, "the test before has left a call in the queue"
    assert bill.delay("ann").get is not None
    jobtastic.assert_runs(bill, 1)


def test_what_a_run_calls_runs_too_and_retries_when_time_has_come(jobtastic: Any, app: Any) -> None:
    jobtastic.policy(app, POLICY)
    plain = app.tasks["shop.plain"].delay(7)
    assert jobtastic.run() == 2
    assert plain.get(timeout=1) == 3
    jobtastic.assert_runs("shop.bill", 1)
    result = app.tasks["shop.fails"].delay(1)
    jobtastic.assert_runs("shop.fails", 1)
    jobtastic.tick(200)
    jobtastic.assert_runs("shop.fails", 2)
    assert result.state == "FAILURE"


def test_a_canvas_and_a_direct_call(jobtastic: Any, app: Any, bill: Any) -> None:
    jobtastic.policy(app, POLICY)
    header = group(bill.s("ann"), bill.s("ann"), bill.s("bob")).apply_async()
    jobtastic.assert_runs(bill, 2)
    assert header.get(timeout=1) == ["ann", "ann", "bob"]
    assert bill("eve") == "eve"
    assert jobtastic.runs(bill) == 3


def test_a_policy_may_change_and_its_mistakes_are_told(jobtastic: Any, app: Any) -> None:
    alone = app.tasks["shop.alone"]
    jobtastic.policy(app, POLICY)
    first = alone.delay(1)
    with pytest.raises(DuplicateCall):
        alone.delay(1)
    jobtastic.policy(app, {"tasks": {"shop.*": {}}})
    jobtastic.assert_joined(first, alone.delay(1))
    with pytest.raises(PolicyError, match="takes no argument `y`"):
        jobtastic.policy(app, {"tasks": {"shop.alone": {"significant_kwargs": ["y"]}}})


def test_nothing_is_sent_before_there_is_a_policy(
    monkeypatch: pytest.MonkeyPatch, jobtastic: Any, app: Any, bill: Any
) -> None:
    assert bill.delay("ann").get() == "ann", "an app that is always eager sends nothing"
    monkeypatch.setitem(app.conf.changes, "task_always_eager", False)
    for call in (
        lambda: bill.delay("ann"),
        lambda: bill.forget("ann"),
        lambda: app.send_task("shop.bill", ("ann",)),
        lambda: app.control.revoke("ann"),
        lambda: group(bill.s("ann")).apply_async(),
        lambda: chord([bill.s("ann"), bill.s("bob")], bill.si("eve")).apply_async(),
        lambda: (bill.s("ann") | bill.s()).apply_async(),
    ):
        with pytest.raises(ConfigurationError, match=r"call jobtastic\.policy\(app, {…}\) first"):
            call()
    for ask in (
        jobtastic.run,
        lambda: jobtastic.runs(bill),
        lambda: jobtastic.assert_runs(bill, 0),
    ):
        with pytest.raises(ConfigurationError, match=r"call jobtastic\.policy\(app, …\)"):
            ask()
    jobtastic.policy(app, POLICY)
    bill.delay("ann")
    jobtastic.assert_runs(bill, 1)


def test_names_that_no_task_has_are_told(jobtastic: Any, app: Any, bill: Any) -> None:
    with pytest.raises(PolicyError, match=r"no task of this app fits `shop\.bil`; did you mean"):
        jobtastic.policy(app, {"tasks": {"shop.bil": {}}})
    jobtastic.policy(app, POLICY)
    with pytest.raises(
        ConfigurationError, match=r"shop\.bil is no task .* did you mean `shop.bill`"
    ):
        jobtastic.assert_runs("shop.bil", 0)


def test_why_two_calls_are_not_one(jobtastic: Any, app: Any, bill: Any) -> None:
    alone, plain = app.tasks["shop.alone"], app.tasks["shop.plain"]

    def why(first: Any, other: Any) -> str:
        with pytest.raises(AssertionError) as caught:
            jobtastic.assert_joined(first, other)
        return str(caught.value).splitlines()[0].partition(": ")[2].partition(": ")[2]

    jobtastic.policy(app, POLICY)
    assert why(plain.delay(1), plain.delay(1)) == (
        "shop.plain has no policy; there is one for shop.bill, shop.fails, shop.alone"
    )
    assert why(bill.delay("ann"), alone.delay(1)) == (
        "task = shop.bill and customer = 'ann', but task = shop.alone and x = 1"
    )
    german = bill.apply_async(("ann",), headers={"Language": "de"}, queue="slow")
    assert why(bill.delay("ann"), german) == "nothing, but header Language = 'de' and queue = slow"
    first = alone.delay(7)
    jobtastic.run()
    assert why(first, alone.delay(7)) == (
        "they agree in task = shop.alone and x = 7, and were decided apart: published, published"
    )


def test_what_forget_does_to_a_message_that_is_queued(jobtastic: Any, app: Any, bill: Any) -> None:
    """As docs/policy.md has it."""
    jobtastic.policy(app, POLICY)
    queued = bill.delay("ann")
    assert bill.forget("ann")
    again = bill.delay("ann")
    assert again.id != queued.id
    jobtastic.assert_runs(bill, 1)
    assert queued.get(timeout=1) == again.get(timeout=1) == "ann"
    assert bill.delay("ann").decision == "cached"
    assert bill.forget("ann")
    assert not bill.forget("ann")
    bill.delay("ann")
    jobtastic.assert_runs(bill, 2)


def test_everything_is_put_back(
    app: Any, bill: Any, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    from jobtastic_ext.testing.harness import Harness

    monkeypatch.setenv("JOBTASTIC_ENABLED", "0")
    before = dict(app.conf.changes), dict(vars(bill)), app.steps["worker"].copy()
    methods = Task.apply_async, Task.forget, Celery.send_task, chord.run
    harness = Harness()
    harness.policy(app, POLICY)
    assert runtime_of(app) is not None, "a test that asks for it is not switched off"
    bill.delay("ann")
    harness.run()
    harness.close()
    assert (dict(app.conf.changes), dict(vars(bill)), app.steps["worker"]) == before
    assert (Task.apply_async, Task.forget, Celery.send_task, chord.run) == methods
    assert runtime_of(app) is None
    assert app.conf.broker_url == "redis://localhost:1"
    assert bill.delay("ann").get() == "ann", "it is always eager again"


def test_the_example_of_the_documentation(
    jobtastic: Any, app: Any, bill: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (example,) = re.findall(
        r"```python\n(.*?)```", (ROOT / "docs/testing.md").read_text(), re.DOTALL
    )
    lines = "tasks:\n  shop.bill: {significant_kwargs: [customer], cache_duration: 1h}\n"
    (tmp_path / "jobtastic.yaml").write_text(lines)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "shop", ModuleType("shop"))
    monkeypatch.setitem(sys.modules, "shop.celery", SimpleNamespace(app=app))
    monkeypatch.setitem(sys.modules, "shop.tasks", SimpleNamespace(bill=bill))
    names: dict[str, Any] = {}
    exec(example.replace("a bill for ann", "ann"), names)
    names["test_a_double_click_sends_one_bill"](jobtastic)


def test_the_plugin_imports_nothing_that_is_not_used() -> None:
    script = """
import sys
import pytest
before = {*sys.modules}
import pytest_jobtastic
assert {*sys.modules} - before == {"pytest_jobtastic"}, {*sys.modules} - before
"""
    subprocess.run([sys.executable, "-W", "error", "-c", script], check=True, timeout=60)
