"""Keeps the claims of the runs that are alive, from the worker's main process, for every pool."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any, TypeVar
from weakref import WeakValueDictionary

from celery.app.task import Task
from celery.worker import state
from celery.worker.request import Request
from kombu.exceptions import OperationalError
from msgspec import Struct

from .. import signals
from ..broker.lines import Lines
from ..broker.routing import Routes
from ..celery_internals import CONTENT
from ..claims.claimed_run import release_message
from ..claims.header import HEADER, read_header
from ..claims.line import wake
from ..claims.records import Renew
from ..claims.store import Store
from ..counts.tally import Tally
from ..errors import ArgumentUnknown, StoreError
from ..policy.model import Plan
from ..resilience.per_process import start_daemon
from ..telling import tell
from .contents import key_of
from .identity import child_token, worker_token
from .rate_limits import RateLimits

logger = logging.getLogger("jobtastic_ext")

T = TypeVar("T")

#: Seconds between two looks at what is running here; less for a lease shorter than 2 s.
LOOK = 0.5

#: Seconds between two looks at the lines of messages that wait in the broker.
LINES_LOOK = 2.0


class Lease(Struct):
    """A claim that is kept: its key, the token of its run once known, and when it was renewed."""

    key: str
    #: The key under which its caller claimed it: another one, if the message holds another call.
    claimed: str
    plan: Plan
    #: That of any run of the process which has it.
    child: str = ""
    run: str = ""
    renewed: float = 0.0
    #: The message is a retry: the run that sent it.
    after: str = ""
    #: The message is the copy that a takeover sent.
    bare: bool = False
    #: Where it was parked last.
    line: str = ""


class LeaseKeeper:
    """Renews the claims of the requests that are active in this worker."""

    def __init__(
        self,
        plan: Callable[[Task], Plan | None],
        store: Store,
        lines: Lines,
        routes: Routes,
        lease: float,
        tally: Tally,
    ) -> None:
        self._tally = tally
        self._plan, self._store, self._lines, self._routes = plan, store, lines, routes
        #: Seconds.
        self._lease_time = lease
        self._received: WeakValueDictionary[str, Request] = WeakValueDictionary()
        self._leases: dict[str, Lease] = {}
        self._limits = RateLimits()
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        self._looked = 0.0

    def receive(self, request: Request, consumer: Any = None) -> None:
        """Remember a request."""
        plan = self._plan(request.task)
        if plan is None:
            return
        header = read_header(request.request_dict.get(HEADER), plan.key_head, request.id)
        self._limits.pass_by(request.task, consumer, waited=header.looks > 0)
        self._received[request.id] = request
        request.request_dict[CONTENT] = request.content_type
        self.start()

    def start(self) -> None:
        """Start the thread, once the pool has forked."""
        if self._thread is None:
            self._thread = start_daemon(self._keep, "keeper")

    def stop(self) -> None:
        """Stop renewing."""
        self._stopped.set()

    def lose(self, task_id: str) -> None:
        """The child that ran a task is gone, and cannot let go of its claim itself."""
        # Celery says it twice of a hard time limit.
        request = self._received.pop(task_id, None)
        if request is not None:
            self._tally.count(request.task.name, "failed")
        lease = self._leases.pop(task_id, None) or (request and self._lease(request))
        if lease:
            self._release(task_id, lease, lease.run or lease.child)
            if request is not None:
                tell(signals.run_lost, request.task, task_id=task_id, key=lease.key)

    def revoke(self, task: Any, request: Any, terminated: bool) -> None:
        """The task was revoked or has expired, before it began or (terminated) while it ran."""
        lease = self._leases.pop(request.id, None) if terminated else None
        lease = lease or self._lease_of(task, getattr(request, HEADER, None), request)
        if lease:
            self._release(request.id, lease, "")
            if terminated:
                self._release(request.id, lease, lease.run or lease.child)
            # The next of the line, in its place.
            wake(self._store, self._lines, lease.plan, lease.key, lease.line)

    def _keep(self) -> None:
        pause = min(LOOK, self._lease_time / 4)
        while not self._stopped.wait(pause):
            try:
                self._look()
                self._look_at_lines()
            except Exception:
                logger.exception("the keeper of claims goes on after an error")

    def _look(self) -> None:
        self._release_revoked()
        active = {request.id: request for request in snapshot(lambda: state.active_requests)}
        for task_id, request in active.items():
            if task_id not in self._leases:
                lease = self._lease(request)
                if lease is not None:
                    self._leases[task_id] = lease
        now = time.monotonic()
        for task_id, lease in list(self._leases.items()):
            if task_id not in active:
                # Ended, or lost without a signal (rejected after the loss of a child).
                self._leases.pop(task_id, None)
                if lease.run:
                    self._release(task_id, lease, lease.run)
            elif now - lease.renewed >= lease.plan.lease / 3000:
                self._renew(task_id, lease)

    def _release_revoked(self) -> None:
        """A message revoked while it waits for a slot is dropped only when its turn comes."""
        # By those that are revoked, which are few: of messages with an eta there may be thousands.
        for task_id in snapshot(state.revoked.as_dict) if state.revoked else ():
            request = self._received.pop(task_id, None)
            lease = self._lease(request) if request is not None else None
            if lease is not None:
                self._release(task_id, lease, "")

    def _look_at_lines(self) -> None:
        """Have those looked at who wait for what has ended without a word."""
        if self._lines.looks and time.monotonic() - self._looked >= LINES_LOOK:
            self._looked = time.monotonic()
            try:
                self._lines.look()
            except OperationalError as error:
                logger.debug("the lines of what waits are looked at later: %s", error)

    def _renew(self, task_id: str, lease: Lease) -> None:
        renew = Renew(task_id=task_id, run=lease.run or worker_token(), lease=lease.plan.lease)
        try:
            answer = self._store.apply(lease.key, renew)
        except StoreError:
            return  # tried again at the next look
        if answer.word == "lost":
            lease.run = ""  # the same id may run again here, under another token
        else:
            # The exact token, so that a later run of the same id is never taken for this one.
            lease.run, lease.renewed = answer.id, time.monotonic()

    def _release(self, task_id: str, lease: Lease, run: str) -> None:
        key = lease.key if run else lease.claimed
        release_message(
            self._store,
            self._lines,
            lease.plan,
            key,
            task_id,
            run=run,
            after=lease.after,
            bare=lease.bare,
        )

    def _lease(self, request: Request) -> Lease | None:
        return self._lease_of(request.task, request.request_dict.get(HEADER), request)

    def _lease_of(self, task: Any, header: Any, request: Any) -> Lease | None:
        plan = self._plan(task)
        if plan is None or not plan.shares:
            return None
        try:
            known = read_header(header, plan.key_head, request.id)
            key, _ = key_of(plan, self._routes, task, known, request)
            claimed = known.key or key
        except (ArgumentUnknown, TypeError):
            return None  # it runs without a claim
        child = child_token(getattr(request, "worker_pid", None))
        return Lease(
            key=key,
            claimed=claimed,
            plan=plan,
            child=child,
            after=known.after,
            bare=known.bare,
            line=known.line,
        )


def snapshot(read: Callable[[], Iterable[T]]) -> list[T]:
    """Return what is in a collection that another thread may change while it is read."""
    while True:
        try:
            return list(read())
        except RuntimeError:
            continue
