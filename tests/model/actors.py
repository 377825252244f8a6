"""Callers, workers and keepers: the real code of the package, one effect at a time.

An actor is a function that touches the world only by *effects*: a store operation, a read or a
write of a result, a publish, the body of the task.  To take one step of an actor, the function is
run from its start with the answers that it has had so far; the first effect beyond them is the
next one.  So an actor's whole state is the tuple of its answers, and any two actors can be
interleaved, crashed or forgotten at every effect, without threads.

What runs here is `calls.apply_async`, the wrapped body of a task, `Postrun`, `LeaseKeeper`,
`ResultBackend` and Celery's own `Task.retry`.  Only Celery's tracer is written out
(`celery.app.trace.build_tracer`: body, result, `task_success`, `task_postrun`).
"""

from __future__ import annotations

import functools
import itertools
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from types import SimpleNamespace
from typing import Any

import billiard.exceptions
from celery import Celery, states
from celery.app.task import Context
from celery.exceptions import Ignore, Reject, Retry
from kombu.exceptions import OperationalError
from msgspec import Struct

from jobtastic_ext.broker.routing import Routes
from jobtastic_ext.caller import calls, eager, fallback
from jobtastic_ext.claims import protocol
from jobtastic_ext.claims.header import HEADER
from jobtastic_ext.claims.records import Answer, Claim, Operation
from jobtastic_ext.claims.store import Store
from jobtastic_ext.errors import ResultsUnavailable, StoreError, StoreUnavailable
from jobtastic_ext.policy.loader import load_policy
from jobtastic_ext.policy.model import Plan
from jobtastic_ext.policy.planner import make_plan
from jobtastic_ext.results import backend as results
from jobtastic_ext.results.backend import Backend as Results
from jobtastic_ext.results.kinds import unshareable
from jobtastic_ext.settings import read_settings
from jobtastic_ext.worker import delivery, lease_keeper, postrun, wrapping

#: In milliseconds; see the policy below.
LEASE, HERD = 30_000, 60_000

#: How Celery marks a child that was killed.
LOST = "lost"


class Message(Struct, frozen=True, order=True):
    """A message in the broker's queue."""

    id: str
    header: tuple[tuple[str, Any], ...]
    retries: int = 0
    redelivered: bool = False
    #: When it is delivered at the earliest; while it is being sent: in how long.
    eta: int = 0

    @property
    def gen(self) -> str:
        return str(dict(self.header).get("gen", ""))


class Effect(Struct, frozen=True):
    """What an actor wants of the world."""

    kind: str  # store, read, write, publish, park, wake, body
    what: Any = None


class Raised(Struct, frozen=True):
    """The answer to an effect that failed; `kind` says how."""

    kind: str = "down"


class Finished(Struct, frozen=True):
    """An actor has come to its end."""

    value: Any = None


class Behaviour(Struct, frozen=True):
    """The policy of the one task, and what its body does."""

    #: What the body does at each attempt: ``value``, ``fail`` or ``retry``.
    body: tuple[str, ...] = ("value",)
    policy: tuple[tuple[str, Any], ...] = ()


class Stop(BaseException):
    """The actor's answers are used up.  Nothing in the package may catch it."""


class Replay:
    """The world as one actor sees it."""

    def __init__(self, name: str, log: tuple[Any, ...]) -> None:
        self.name, self.log = name, iter(log)
        self.wanted: Effect | None = None
        self._ids = itertools.count()

    def do(self, effect: Effect, error: Callable[[], Exception] = Exception) -> Any:
        if self.wanted is None:
            try:
                answer = next(self.log)
            except StopIteration:
                self.wanted = effect
            else:
                if isinstance(answer, Raised):
                    raise error()
                return answer
        raise Stop

    def urandom(self, size: int) -> bytes:
        return f"{self.name}{next(self._ids)}".encode().ljust(size, b"-")[:size]


class ModelStore(Store):
    """Hands every operation to the world, which runs `claims.step`."""

    def apply(self, key: str, operation: Operation) -> Answer:
        answer: Answer = now().do(Effect("store", operation), lambda: StoreUnavailable("down"))
        return answer

    def read(self, key: str) -> Claim | None:
        raise NotImplementedError

    def ping(self) -> None:
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError


class ModelBackend:
    """A result backend: what `results.Backend` asks of Celery's."""

    expires = None

    def on_task_call(self, producer: Any, task_id: str) -> None:
        """Nothing to subscribe to."""

    def _get_task_meta_for(self, task_id: str) -> dict[str, Any]:
        return meta(*now().do(Effect("read", task_id), lambda: ConnectionError("down")))

    def store_result(self, task_id: str, value: Any, state: str, *_: Any) -> None:
        if isinstance(value, billiard.exceptions.WorkerLostError):
            value = LOST
        elif isinstance(value, Exception):
            value = str(value)
        now().do(Effect("write", (task_id, state, value)), lambda: ConnectionError("down"))


def meta(state: str, value: Any) -> dict[str, Any]:
    """What a backend makes of what is stored."""
    if state == states.FAILURE:
        lost = value == LOST
        value = billiard.exceptions.WorkerLostError(LOST) if lost else Exception(value)
    return {"status": state, "result": value}


class ModelResults(Results):
    """The package's own, asking at once instead of within a bound of time."""

    takes_outcomes = True
    kind = ModelBackend  # type: ignore[assignment]

    def __init__(self, app: Any) -> None:
        super().__init__(app, timeout=1.0)

    def decoded(self, task_id: str, stored: Any) -> Any:
        return results.outcome_of(meta(*stored)) if stored else None

    def ask(self, question: Callable[[Any], Any], what: str, *_: Any) -> Any:
        try:
            return question(self._app.backend)
        except ConnectionError as error:
            raise ResultsUnavailable(what) from error


class ModelBroker:
    """Hands every message to the world."""

    kind = "redis"
    timeout = 1.0

    def leave_to_the_parent(self) -> None:
        """Nothing is ever forked."""

    def publish(self, send: Callable[[Any], Any], until: float, *, certain: bool) -> Any:
        return send(None)


class ModelLines:
    """The broker's lines: what is parked, and woken, is the world's affair."""

    can_park, looks = True, False

    def place(self, delivery_info: Any) -> str:
        return "line"

    def park(self, key: str, send: Callable[[Any], Any], seconds: float, front: bool) -> None:
        send("front" if front else "back")

    def wake(self, key: str, places: str, one: bool) -> int:
        count: int = now().do(Effect("wake", one), lambda: OperationalError("down"))
        return count


class ModelOutbox:
    """Tries once more, at once; a process that ends before has told nobody."""

    def later(self, what: str, write: Callable[[], object], seconds: float, size: int = 0) -> None:
        with suppress(StoreError, ResultsUnavailable):
            write()


def publish(task: Any, args: Any, kwargs: Any, **options: Any) -> Any:
    header = dict((options.get("headers") or {}).get(HEADER) or {})
    if "looks" in header:
        header["looks"] = min(header["looks"], 1)  # it only tells how long to wait
        header["due"] = 0  # the world sets it, where a message comes back by itself
    message = Message(
        options["task_id"],
        tuple(sorted(header.items())),
        options.get("retries") or 0,
        eta=round((options.get("countdown") or 0) * 1000),
    )
    kind = {"front": "park first", "back": "park"}.get(options.get("producer"), "publish")
    now().do(Effect(kind, message), lambda: OperationalError("down"))
    return SimpleNamespace(id=message.id)


_current: list[Replay] = []


def now() -> Replay:
    """The actor that runs at the moment."""
    return _current[-1]


@functools.cache
def setting(behaviour: Behaviour) -> tuple[Any, Any]:
    """The runtime and the task, built as in any process, but with the world's parts."""
    policy = {"herd_avoidance_timeout": HERD / 1000, **dict(behaviour.policy)}
    app = Celery("model", set_as_current=False, broker="memory://", backend="cache+memory://")
    app.conf.update(jobtastic_policy={"tasks": {"work": policy}}, jobtastic_store="memory://")
    app.conf.jobtastic_lease = LEASE / 1000

    @app.task(name="work", bind=True, shared=False, max_retries=None)
    def work(self: Any) -> Any:
        value = now().do(Effect("body", self.request.retries))
        kind = behaviour.body[min(self.request.retries, len(behaviour.body) - 1)]
        if kind == "fail":
            raise ValueError(value)
        if kind == "retry":
            raise self.retry(countdown=0)
        return value

    app.finalize()
    task = app.tasks["work"]
    settings = read_settings(app.conf)
    plan = make_plan(task, load_policy(settings.policy), settings, unshareable)
    runtime = ModelRuntime(app, settings, plan)
    task.__dict__["AsyncResult"] = lambda id: SimpleNamespace(id=id, _set_cache=lambda meta: None)
    task.__dict__["apply_async"] = lambda args=None, kwargs=None, **options: calls.apply_async(
        runtime, publish, task, args, kwargs, options
    )
    task.__dict__["body"] = wrapping.wrap(runtime, plan, task, task.run)
    return runtime, task


class ModelRuntime:
    """What the paths of a call and of a run are handed."""

    keys_head = "jobtastic:"

    broker = ModelBroker()
    lines = ModelLines()
    broker_shares_store = False
    keeper = None
    #: Counts change nothing.
    tally = SimpleNamespace(count=lambda task, word: None)
    publish = staticmethod(publish)

    def around_body(self, *_: Any) -> Any:
        return nullcontext()

    def __init__(self, app: Celery, settings: Any, plan: Plan | None) -> None:
        self.app, self.settings, self._plan = app, settings, plan
        self.routes = Routes(app)
        self.store = self.direct_store = ModelStore()
        self.results = ModelResults(SimpleNamespace(backend=ModelBackend()))
        self.subscriptions = SimpleNamespace(unsubscribed=nullcontext)
        self.owed_to_store = self.owed_to_results = ModelOutbox

    def tell_once(self, *_: object) -> None:
        """What is only for the log."""

    def plan(self, task: Any) -> Plan | None:
        return self._plan


def call(behaviour: Behaviour, options: tuple[tuple[str, Any], ...]) -> Any:
    """`apply_async`: the id that the caller is left with, or None if it got an error."""
    runtime, task = setting(behaviour)
    try:
        return calls.apply_async(runtime, publish, task, (), {}, dict(options)).id
    except OperationalError:
        return None


def deliver(behaviour: Behaviour, message: Message) -> None:
    """A child of a worker takes up a message, as Celery's tracer does."""
    runtime, task = setting(behaviour)
    request = context(message)
    task.request_stack.push(request)
    state: str | None = None
    retval: Any = None
    write = runtime.results._app.backend.store_result
    ends = postrun.Postrun(runtime)
    try:
        try:
            retval = task.body()
        except Retry as retry:
            state, retval = states.RETRY, retry
            write(message.id, "retry", state)
        except Ignore as reason:
            state, retval = states.IGNORED, reason
        except Reject as reason:
            state, retval = states.REJECTED, reason
        except Exception as error:  # noqa: BLE001 - as the tracer
            state, retval = states.FAILURE, error
            write(message.id, error, state)
        else:
            state = states.SUCCESS
            write(message.id, retval, state)
            ends.on_success(task)
        ends.on_postrun(task, state, retval, (), {})
    finally:
        task.request_stack.pop()


def context(message: Message) -> Context:
    return Context(
        {
            "id": message.id,
            "retries": message.retries,
            "headers": {HEADER: dict(message.header)},
            HEADER: dict(message.header),
            "delivery_info": {"redelivered": message.redelivered, "routing_key": "q"},
            "reply_to": None,
        },
        args=(),
        kwargs={},
        called_directly=False,
    )


def lose(behaviour: Behaviour, message: Message) -> None:
    """A worker's main process learns that the child which had the message was killed."""
    runtime, task = setting(behaviour)
    error = billiard.exceptions.WorkerLostError(LOST)
    runtime.results._app.backend.store_result(message.id, error, states.FAILURE)
    keeper_of(runtime, task, message).lose(message.id)


def expire(behaviour: Behaviour, message: Message) -> None:
    """A worker drops a message that has expired, or was revoked before it began."""
    runtime, task = setting(behaviour)
    runtime.results._app.backend.store_result(message.id, "revoked", states.REVOKED)
    known = {"args": (), "kwargs": {}, "delivery_info": {}, "headers": None}
    request = SimpleNamespace(id=message.id, **known, **{HEADER: dict(message.header)})
    keeper_in(runtime).revoke(task, request, False)


def foreign(behaviour: Behaviour, message: Message) -> None:
    """A worker without the plugin: body and result, and nobody is told."""
    runtime, _ = setting(behaviour)
    write = runtime.results._app.backend.store_result
    kind = behaviour.body[min(message.retries, len(behaviour.body) - 1)]
    value = now().do(Effect("body", message.retries))
    if kind == "retry":
        write(message.id, "retry", states.RETRY)
        again = Message(message.id, message.header, message.retries + 1)
        with suppress(OperationalError):  # Celery rejects it, without a word
            now().do(Effect("publish", again), lambda: OperationalError("down"))
    elif kind == "fail":
        write(message.id, ValueError(value), states.FAILURE)
    else:
        write(message.id, value, states.SUCCESS)


def unknown(behaviour: Behaviour, message: Message) -> None:
    """A worker that does not know the task, or whose `on_store_error` is `raise`."""
    runtime, _ = setting(behaviour)
    runtime.results._app.backend.store_result(message.id, "unknown", states.FAILURE)


def renew(behaviour: Behaviour, message: Message) -> None:
    """A worker's main process renews the lease of a run in its child."""
    runtime, task = setting(behaviour)
    keeper = keeper_of(runtime, task, message)
    keeper._renew(message.id, keeper._leases[message.id])


def keeper_in(runtime: Any) -> lease_keeper.LeaseKeeper:
    return lease_keeper.LeaseKeeper(
        runtime.plan, runtime.store, runtime.lines, runtime.routes, LEASE / 1000, runtime.tally
    )


def keeper_of(runtime: Any, task: Any, message: Message) -> lease_keeper.LeaseKeeper:
    keeper = keeper_in(runtime)
    header = dict(message.header)
    request = SimpleNamespace(
        id=message.id, task=task, args=(), kwargs={}, request_dict={HEADER: header}
    )
    lease = keeper._lease(request)
    if lease is not None:
        keeper._leases[message.id] = lease
    return keeper


PROGRAMS: dict[str, Callable[..., Any]] = {
    "call": call,
    "deliver": deliver,
    "lose": lose,
    "expire": expire,
    "renew": renew,
    "foreign": foreign,
    "unknown": unknown,
}


class Actors:
    """Actors by number: what one does next depends on nothing but the answers that it has had.

    A world with the number in it is quick to compare.
    """

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Forget what was worked out: the code has been changed, or the memory is full."""
        #: By number: what it does next.
        self.steps: list[Effect | Finished] = []
        self._known: list[tuple[Any, ...]] = []
        self._begun: dict[Any, int] = {}
        self._after: dict[Any, int] = {}
        self._names: dict[int, frozenset[str]] = {}
        setting.cache_clear()

    def begin(self, program: str, name: str, behaviour: Behaviour, *arguments: Any) -> int:
        """Return the number of an actor that has done nothing yet."""
        at = (program, name, behaviour, arguments)
        found = self._begun.get(at)
        if found is None:
            found = self._begun[at] = self._add(program, name, (), behaviour, *arguments)
        return found

    def after(self, actor: int, answer: Any) -> int:
        """Return its number when it has had this answer."""
        at = (actor, answer)
        found = self._after.get(at)
        if found is None:
            program, name, log, *rest = self._known[actor]
            found = self._after[at] = self._add(program, name, (*log, answer), *rest)
        return found

    def names_of(self, actor: int) -> frozenset[str]:
        """Return of whom it knows: their names are not given to others."""
        found = self._names.get(actor)
        if found is None:
            found = self._names[actor] = names_in(self._known[actor][2:])
        return found

    def _add(self, *known: Any) -> int:
        self._known.append(known)
        self.steps.append(compute(*known))
        return len(self.steps) - 1


ACTORS = Actors()


def compute(
    program: str, name: str, log: tuple[Any, ...], behaviour: Behaviour, *arguments: Any
) -> Effect | Finished:
    setting(behaviour)  # not under the patches
    replay = Replay(name, log)
    _current.append(replay)
    try:
        with world_of(replay):
            value = PROGRAMS[program](behaviour, *arguments)
    except Stop:
        assert replay.wanted is not None
        return replay.wanted
    finally:
        _current.pop()
    left = list(replay.log)
    assert not left, f"{program} ended without taking {left}"
    assert replay.wanted is None, f"{program} swallowed Stop at {replay.wanted}"
    return Finished(value)


@contextmanager
def world_of(replay: Replay) -> Iterator[None]:
    """Ids, tokens and threads as the actor has them."""
    name, child = replay.name, child_of(replay.name)
    ours = (
        (os, "urandom", replay.urandom),
        # The arguments of a call are told apart by who has made it.
        (calls, "packed", lambda *_: name),
        (delivery, "packed", lambda *_: name),
        (delivery, "unpacked", lambda *_: ([], {})),
        (protocol, "is_old", lambda *_: False),  # the world is young
        (eager, "within", lambda seconds, function, late: function()),
        (eager, "renewed", nullcontext),  # the world renews
        (delivery, "child_token", lambda *_: child),
        (lease_keeper, "child_token", lambda *_: child),
        (fallback, "run_token", lambda *_: f"{child}here"),
    )
    theirs = [(module, known, getattr(module, known)) for module, known, _ in ours]
    try:  # `mock.patch` takes ten times as long, and that for each step
        for module, attribute, value in ours:
            setattr(module, attribute, value)
        with worker_token(child.partition(".")[0] + "."):
            yield
    finally:
        for module, attribute, value in theirs:
            setattr(module, attribute, value)


@contextmanager
def worker_token(token: str) -> Iterator[None]:
    """Set one variable; `mock.patch.dict` copies the whole environment, and that for each step."""
    before = os.environ.get("JOBTASTIC_WORKER")
    os.environ["JOBTASTIC_WORKER"] = token
    try:
        yield
    finally:
        del os.environ["JOBTASTIC_WORKER"]
        if before is not None:
            os.environ["JOBTASTIC_WORKER"] = before


def ignored(*_: Any) -> None:
    """Progress is no part of the protocol."""


@functools.cache
def names_in(what: Any) -> frozenset[str]:
    """Return the names of the workers whose runs are named in something."""
    found = re.findall("77[0-9a-f]{10}", what if isinstance(what, str) else repr(what))
    return frozenset(bytes.fromhex(one).decode() for one in found)


def child_of(name: str) -> str:
    """The token of a worker's child: what the names of all that happens there begin with."""
    return name.partition("#")[0] + "."
