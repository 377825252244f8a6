"""Whose result it is: what tells two calls apart in ordinary projects, and is no named argument."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from decimal import Decimal
from typing import Any

import pytest
from celery.app.task import Task

from jobtastic_ext.errors import PolicyError
from jobtastic_ext.runtime import close_runtime, runtime_of
from tests import tenants
from tests.integration.conftest import settings_of, wait_until
from tests.workers import ROOT, Worker

Call = Callable[..., Any]


class Tenants:
    """An app of `tests.tenants` as its producer sees it."""

    def __init__(self, conf: dict[str, Any]) -> None:
        self.conf = conf
        self.app = tenants.create(conf)

    def task(self, name: str) -> Task:
        return self.app.tasks[f"tenants.{name}"]

    def noted(self, name: str, x: Any, event: str = "run") -> list[dict[str, Any]]:
        return [line for line in self.app.notes.read(name, event) if line["x"] == x]

    def close(self) -> None:
        close_runtime(self.app)
        self.app.close()
        self.app.notes.close()


@pytest.fixture(scope="module")
def make(redis_server: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Call]:
    with ExitStack() as stack:

        def make(worker: bool = False, **settings: Any) -> Tenants:
            conf = settings_of(redis_server, "redis", tmp_path_factory.mktemp("tenants"))
            conf |= {"jobtastic_policy": tenants.POLICY, **settings}
            conf = {name: value for name, value in conf.items() if value is not None}
            found = Tenants(conf)
            stack.callback(found.close)
            if worker:
                queues = ",".join([conf["task_default_queue"], *QUEUES])
                stack.enter_context(
                    Worker(conf, app="tests.tenants", concurrency=3, arguments=("-Q", queues))
                )
            return found

        yield make


#: Queues that no other test uses.
QUEUES = [f"{name}-{uuid.uuid4().hex[:8]}" for name in ("north", "south")]


@pytest.fixture(scope="module")
def project(make: Call) -> Tenants:
    return make(worker=True)


def values(*results: Any) -> list[Any]:
    return [result.get(timeout=60) for result in results]


# Names


def test_a_decorator_that_passes_an_argument_of_its_own(project: Tenants, unique: str) -> None:
    task = project.task("with_session")
    ann, bob = task.delay(unique, 1), task.delay(f"{unique}-bob", 1)
    named = [task.delay(owner=unique, month=2) for _ in range(2)]
    assert values(ann, bob) == [["the session", unique, 1], ["the session", f"{unique}-bob", 1]]
    assert values(*named) == [["the session", unique, 2]] * 2
    assert named[0].id == named[1].id  # known by name


def test_a_call_of_a_tasks_own_that_passes_an_argument(project: Tenants, unique: str) -> None:
    task = project.task("own_call")
    assert values(task.delay(unique, 1), task.delay(f"{unique}-bob", 1)) == [
        ["the session", unique, 1],
        ["the session", f"{unique}-bob", 1],
    ]


def test_a_decorator_that_passes_on_what_it_gets_is_looked_through(
    project: Tenants, unique: str
) -> None:
    task = project.task("logged")
    assert len({task.delay(unique, 1).id, task.delay(month=1, owner=unique).id}) == 1
    assert task.delay(unique, 2).get(timeout=60) == [unique, 2]


def test_names_behind_a_bare_decorator_are_refused(make: Call) -> None:
    project = make(jobtastic_policy={"tasks": {"tenants.bare": {"significant_kwargs": ["owner"]}}})

    @project.app.task(name="tenants.bare", shared=False)
    def bare(*args: Any, **kwargs: Any) -> None: ...

    with pytest.raises(PolicyError, match="`owner` is not known by name") as caught:
        bare.delay("ann")
    assert "functools.wraps" in str(caught.value)


def test_extra_keyword_arguments_count_as_one(project: Tenants, unique: str) -> None:
    task = project.task("options")
    pdf, xls = task.delay(unique, fmt="pdf"), task.delay(unique, fmt="xls")
    assert values(pdf, xls) == [[unique, {"fmt": "pdf"}], [unique, {"fmt": "xls"}]]
    again = task.delay(owner=unique, fmt="pdf")
    assert again.id == pdf.id


def test_a_default_that_never_travels(project: Tenants, unique: str) -> None:
    task = project.task("missing")
    one, other = task.delay(unique), task.delay(x=unique)
    assert one.id == other.id
    assert one.get(timeout=60) == [unique, True]
    assert task.delay(unique, 5).get(timeout=60) == [unique, False]


# Headers and queues


def test_a_tenant_in_the_headers(project: Tenants, unique: str) -> None:
    task = project.task("invoices")
    results = []
    for tenants_name in ("ann", "bob", "ann"):
        tenants.TenantTask.tenant.name = tenants_name
        results.append(task.delay(unique))
    assert values(*results) == [["ann", unique], ["bob", unique], ["ann", unique]]
    assert results[0].id == results[2].id
    # Messages that never saw our `apply_async` come to the same key at the worker.
    for name in ("ann", "bob", "eve"):
        headers = {"_schema_name": name, "traceparent": uuid.uuid4().hex, "sentry-trace": name}
        sent = project.app.send_task("tenants.invoices", (unique,), headers=headers)
        assert sent.get(timeout=60) == [name, unique]
    assert len(project.noted("invoices", unique)) == 3


def test_arguments_alone_where_the_policy_says_so(project: Tenants, unique: str) -> None:
    task, ids = project.task("anywhere"), set()
    for name in ("ann", "bob"):
        tenants.TenantTask.tenant.name = name
        ids.add(task.delay(unique).id)
    assert len(ids) == 1


def test_one_header_by_its_name(project: Tenants, unique: str) -> None:
    task = project.task("by_language")

    def call(language: str, **others: str) -> Any:
        return task.apply_async((unique,), headers={"Accept-Language": language, **others})

    results = [call("de"), call("fr"), call("de", other="x"), call("fr", other="y")]
    assert values(*results) == ["de", "fr", "de", "fr"]
    assert len(project.noted("by_language", unique)) == 2


def test_headers_in_celerys_own_nest(project: Tenants, unique: str) -> None:
    task = project.task("by_language")
    results = [
        task.apply_async((unique,), headers={"headers": {"Accept-Language": word}})
        for word in ("de", "fr")
    ]
    assert values(*results) == ["de", "fr"]


@pytest.mark.parametrize(
    "kind", [uuid.UUID, lambda text: {1: text}, lambda text: Decimal(int(text, 16))]
)
def test_headers_of_whatever_type(project: Tenants, unique: str, kind: Call) -> None:
    """Brokers bring them as JSON does: a UUID as it is, numbers that are names as text."""
    task = project.task("months")
    ann, bob = (kind(uuid.uuid4().hex) for _ in range(2))
    calls = [task.apply_async((unique,), headers={"tenant": each}) for each in (ann, bob, ann)]
    assert calls[0].id == calls[2].id != calls[1].id
    assert values(*calls) == [unique] * 3
    again = task.apply_async((unique,), headers={"tenant": ann})
    assert again.id == calls[0].id
    assert len(project.noted("months", unique)) == 2


def test_a_name_of_a_header_that_is_no_text(project: Tenants, unique: str) -> None:
    sent = project.task("months").apply_async((unique,), headers={5: "x"})
    assert values(sent) == [unique]
    again = project.task("months").apply_async((unique,), headers={5: "x"})
    assert again.id == sent.id


def test_a_message_that_waits_keeps_headers_beside_celerys_own_nest(
    project: Tenants, unique: str
) -> None:
    """Sentry puts its own into the nest, and the tenant's stays beside it."""
    task, waiting = project.task("months"), uuid.uuid4().hex
    headers = {"tenant": unique, "sentry-trace": "x", "headers": {"sentry-trace": "x"}}
    first = task.apply_async((unique,), headers=headers)
    second = task.apply_async((unique,), headers=headers, task_id=waiting)
    assert second.id == waiting
    assert values(first, second) == [unique, unique]
    assert len(project.noted("months", unique)) == 1


def test_a_queue_named_in_the_call(project: Tenants, unique: str) -> None:
    task = project.task("place")
    north, south = QUEUES
    default = project.conf["task_default_queue"]
    results = [task.apply_async((unique,), queue=queue) for queue in (north, south, default)]
    assert values(*results) == [north, south, default]
    assert task.delay(unique).id == results[2].id  # where it goes anyway
    for queue in (north, south, default, None):
        sent = project.app.send_task("tenants.place", (unique,), queue=queue)
        assert sent.get(timeout=60) == (queue or default)
    assert len(project.noted("place", unique)) == 3


def test_routes_by_argument_are_no_queue_named_in_the_call(make: Call, unique: str) -> None:
    project = make(task_routes=[lambda name, args, kwargs, options, task=None: "elsewhere"])
    task = project.task("place")
    runtime = runtime_of(project.app)
    assert runtime is not None
    info = {"exchange": "", "routing_key": "elsewhere"}
    assert runtime.routes.delivered(task, (unique,), {}, info) == ()
    assert runtime.routes.named(task, (unique,), {}, {"queue": "elsewhere"}) == ()
    assert runtime.routes.named(task, (unique,), {}, {"queue": "north"}) == ("", "north")
    assert "elsewhere" not in project.app.amqp.queues  # a worker would take from it


# Deployments


def test_two_deployments_on_one_store_are_two(make: Call, redis_server: Any, unique: str) -> None:
    def ids(**settings: Any) -> str:
        deployment = make(jobtastic_key_prefix=None, task_default_queue="one", **settings)
        return str(deployment.task("place").delay(unique).id)

    usual = ids()
    assert ids() == usual
    others = [
        ids(broker_url=redis_server.url(4)),
        ids(result_backend=redis_server.url(5)),
        ids(main="another"),
        ids(result_backend_transport_options={"global_keyprefix": "staging"}),
        ids(broker_transport_options={"global_keyprefix": "staging"}),
    ]
    assert len({usual, *others}) == 6


def test_two_tenants_with_queues_of_their_own(make: Call, unique: str) -> None:
    ids = {
        make(jobtastic_key_prefix=None, task_default_queue=f"{name}-{unique}")
        .task("place")
        .delay(unique)
        .id
        for name in ("ann", "bob")
    }
    assert len(ids) == 2


def test_a_worker_of_another_name_says_so(make: Call, unique: str) -> None:
    worker = make(jobtastic_key_prefix=None)
    with Worker(worker.conf, app="tests.tenants", pool="solo") as running:
        caller = make(**{**worker.conf, "jobtastic_key_prefix": "another"})
        assert caller.task("options").delay(unique).get(timeout=60) == [unique, {}]
        wait_until(lambda: "set jobtastic_key_prefix in both" in running.output())


def test_the_keys_of_celery_have_its_prefix(make: Call, unique: str) -> None:
    options = {"global_keyprefix": f"g{unique}"}
    project = make(
        worker=True, result_backend_transport_options=options, broker_transport_options=options
    )
    task = project.task("logged")
    first = task.delay(unique)
    assert first.get(timeout=60) == [unique, 1]
    again = task.delay(unique)
    assert (again.id, again.get(timeout=60)) == (first.id, [unique, 1])
    assert len(project.noted("logged", unique)) == 1


# A run's own call of itself


@pytest.mark.parametrize("name", ["pump", "by_name", "calls_pump"])
def test_a_run_that_calls_itself_runs_again_after_it(
    project: Tenants, unique: str, name: str
) -> None:
    project.task(name).delay(unique)
    wait_until(lambda: len(project.noted(name, unique, "end")) == 3, why=name)
    begins = sorted(line["at"] for line in project.noted(name, unique, "begin"))
    ends = sorted(line["at"] for line in project.noted(name, unique, "end"))
    assert all(end <= begin for end, begin in zip(ends, begins[1:], strict=False))


# What is said of it


def celery(conf: dict[str, Any], *words: str) -> str:
    done = subprocess.run(
        [
            sys.executable,
            "-W",
            "ignore",
            "-m",
            "celery",
            "-A",
            "tests.tenants",
            "jobtastic",
            *words,
        ],
        cwd=ROOT,
        env={**os.environ, "JOBTASTIC_TEST_CONF": json.dumps(conf)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_check_says_what_tells_calls_apart(project: Tenants) -> None:
    shown = celery(project.conf, "check")
    told = (
        "tenants.by_language\n    told apart by every argument and the header `Accept-Language`\n"
    )
    assert told in shown
    assert "tenants.anywhere\n    told apart by `month`\n" in shown
    assert (
        "    warning: its decorator `with_session.<locals>.inner` may pass arguments of its own, "
        "so a call is shared only if it passes `owner`, `month` by keyword\n" in shown
    )


def test_explain_shows_the_parts_of_a_key_in_words(project: Tenants) -> None:
    call = ["--args", '["ann"]', "--kwargs", '{"fmt": "pdf"}', "--queue", "north"]
    shown = celery(
        project.conf, "explain", "tenants.options", *call, "--headers", '{"X": 1, "baggage": 2}'
    )
    assert "rule: its own name (<jobtastic_policy>" in shown
    parts = ["owner = 'ann'", "options = {'fmt': 'pdf'}", "header X = 1", "queue = north"]
    assert "".join(f"  {part}\n" for part in parts) in shown
    assert "key: none, it is not shared" in celery(
        project.conf, "explain", "tenants.with_session", "--args", '["ann"]'
    )


# The header is not believed


def test_a_forged_header_poisons_no_other_call(project: Tenants, unique: str) -> None:
    task, runtime = project.task("logged"), runtime_of(project.app)
    assert runtime is not None
    plan = runtime.plan(task)
    assert plan is not None
    task_id = uuid.uuid4().hex
    header = {"id": task_id, "key": plan.key((unique, 1), {}), "gen": "x"}
    forged = project.app.send_task(
        "tenants.logged", ("eve", unique), task_id=task_id, headers={"jobtastic": header}
    )
    assert forged.get(timeout=60) == ["eve", unique]
    assert task.delay(unique, 1).get(timeout=60) == [unique, 1]


def test_headers_that_celery_serves(project: Tenants, unique: str) -> None:
    """Pairs, and a name that is ours among the attributes of a request."""
    task = project.task("months")
    first = task.apply_async((unique,), headers=[("tenant", unique)])
    again = task.apply_async((unique,), headers={"tenant": unique})
    assert first.id == again.id
    assert (
        values(first, task.apply_async((unique,), headers={"jobtastic_run": "x"})) == [unique] * 2
    )


def test_arguments_that_change_on_the_way_are_shared_all_the_same(
    project: Tenants, unique: str
) -> None:
    task = project.task("months")  # JSON has no keys but text
    results = [task.delay({5: unique}) for _ in range(2)]
    wait_until(lambda: project.noted("months", {"5": unique}))
    results.append(task.delay({5: unique}))
    assert values(*results) == [{"5": unique}] * 3
    assert len(project.noted("months", {"5": unique})) == 1
