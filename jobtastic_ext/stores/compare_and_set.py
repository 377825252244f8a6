"""Claims on any server that can set a value only if nobody else has changed it meanwhile.

The rules run here, in a loop over get and put.  What is asked of a driver is a `Session`.  None of
them keeps to a time that can be relied on, so the asking is done by a few threads of our own, and
whoever waits for one waits only so long.
"""

from __future__ import annotations

import os
import random
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import TimeoutError as NotInTime
from contextlib import suppress
from hashlib import blake2b
from typing import Any, NamedTuple, TypeVar

import msgspec

from ..claims.lifetime import expiry, prune
from ..claims.records import EMPTY, Answer, Claim, Operation
from ..claims.rules import step
from ..claims.store import Store
from ..errors import StoreError, StoreUnavailable
from ..resilience.daemon_pool import DaemonPool
from ..resilience.per_process import per_process
from .foreign import ForeignValues

T = TypeVar("T")

#: Connections that one process has at most; one that is idle for ten seconds is closed.
CONNECTIONS = 2

#: Timeouts that a thread waits at most, if others of its process get on meanwhile.
LONGEST_QUEUE = 6

#: So often a change is tried again because another came before it, with seconds in between.
TRIES, PAUSE = 200, 0.002

#: What every server takes as a key; others are told apart by their hash.
LONGEST_NAME = 200

encode = msgspec.json.Encoder().encode
decode = msgspec.json.Decoder(Claim).decode


class Entry(NamedTuple):
    """What stands under a key."""

    #: None: nothing, or its time is over.
    raw: bytes | None = None
    #: Whoever writes an entry gives it another mark.
    mark: int = 0
    #: What the server compares, if it is not the mark; None: there is no entry to be replaced.
    version: Any = None


class Session(ABC):
    """One connection, used by one thread at a time.  Its methods raise what the driver raises."""

    @abstractmethod
    def get(self, names: Sequence[str]) -> tuple[list[Entry], int]:
        """Return what stands under each name, and the time in milliseconds."""

    @abstractmethod
    def put(self, name: str, old: Entry, new: Entry, expires: int, now: int) -> bool:
        """Replace `old`, which `get` has returned at `now`.  False if it is there no more."""

    @abstractmethod
    def close(self) -> None: ...

    def ping(self) -> None:
        """Return if the server answers."""
        self.get(["ping"])

    def abort(self) -> None:  # noqa: B027 - most drivers keep some time themselves
        """Wake the thread that waits for an answer.  Called by another one."""


class _Home:
    """The sessions of one process."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.all: set[Session] = set()
        self.free: list[Session] = []


#: Sessions that came over a fork: not ours to use, and to close them would end the parent's.
_inherited: list[_Home] = []


class CompareAndSetStore(Store):
    """Claims at `address`; one operation takes `timeout` seconds at most."""

    def __init__(self, address: str, timeout: float) -> None:
        self.address, self._timeout = address, timeout
        self._foreign = ForeignValues(address)
        self._home = _Home()
        self._pool = per_process(lambda: DaemonPool(CONNECTIONS, at_end=self.close))
        #: Connections that were opened and operations that were answered so far.
        self._steps = 0
        #: Who waits for an answer.
        self._waiting: set[object] = set()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.address}>"

    @abstractmethod
    def connect(self) -> Session:
        """Open a session."""

    @abstractmethod
    def wrapped(self, error: Exception) -> StoreError:
        """Say what an error of the driver means; `StoreUnavailable` if another try may help."""

    def apply(self, key: str, operation: Operation) -> Answer:
        def decide(raw: bytes | None, now: int) -> tuple[bytes | None, int, Answer]:
            old = self._claim(key, raw, now)
            new, answer = step(operation, old, now)
            return (None if new == old else encode(new)), expiry(new), answer

        return self._change(key, decide)

    def read(self, key: str) -> Claim | None:
        return self.look(key)[0]

    def look(self, key: str) -> tuple[Claim | None, int]:
        (entry,), now = self._ask(lambda session: session.get([named(key)]))
        claim = self._claim(key, entry.raw, now)
        return (None if claim == EMPTY else claim), now

    def load(self, keys: Sequence[str]) -> list[bytes | None]:
        if not keys:
            return []
        entries, _ = self._ask(lambda session: session.get([named(key) for key in keys]))
        return [entry.raw for entry in entries]

    def swap(self, key: str, old: bytes | None, new: bytes, ttl: int) -> bool:
        return self._change(
            key, lambda raw, now: (new if raw == old else None, now + ttl, raw == old)
        )

    def ping(self) -> None:
        self._ask(lambda session: session.ping())

    def close(self) -> None:
        home = self._here()
        self._home = _Home()
        while home.free:
            self._drop(home, home.free.pop())

    def _claim(self, key: str, raw: bytes | None, now: int) -> Claim:
        if raw is None:
            return EMPTY
        with suppress(msgspec.DecodeError, UnicodeDecodeError):
            claim = decode(raw)
            if claim != EMPTY:
                return prune(claim, now)
        self._foreign.noticed(key)
        return EMPTY

    def _change(
        self, key: str, decide: Callable[[bytes | None, int], tuple[bytes | None, int, T]]
    ) -> T:
        """Write what `decide(raw, now)` returns, until when it says, and return its answer.

        Where a connection is lost before the server has said whether it wrote, the mark of what
        stands there tells; unless others have written since.
        """
        name = named(key)
        unsure: dict[int, T] = {}
        base = 0

        def work(session: Session) -> T:
            nonlocal base
            for attempt in range(TRIES):
                (entry,), now = session.get([name])
                if entry.mark in unsure:
                    return unsure[entry.mark]
                if unsure and entry.mark != base:
                    break
                raw, expires, answer = decide(entry.raw, now)
                if raw is None:
                    return answer
                base, mark = entry.mark, random.getrandbits(62) + 1
                unsure[mark] = answer
                if session.put(name, entry, Entry(raw, mark), expires, now):
                    return answer
                del unsure[mark]
                time.sleep(random.uniform(0, PAUSE) * attempt)
            raise StoreUnavailable(
                f"others kept changing {key} in the store at {self.address}; "
                "it cannot be told what became of this change"
            )

        return self._ask(work)

    # The connections

    def _ask(self, work: Callable[[Session], T]) -> T:
        """Have `work` done with a session, and wait for it until the timeout.

        While a crowd in this process gets on, the timeout begins anew: with many threads and little
        processor time the queue is long, which is no fault of the server, and to run all those
        calls would make it longer.
        """
        began: list[float] = []
        used: list[Session] = []

        def job() -> T:
            began.append(time.monotonic())
            return self._done(work, used, lambda: job in self._waiting)

        self._waiting.add(job)
        try:
            future = self._pool().submit(job)
            for _ in range(LONGEST_QUEUE):
                steps = self._steps
                with suppress(NotInTime, TimeoutError):
                    return future.result(self._timeout)
                moves = self._steps != steps and len(self._waiting) > 1
                if not moves and (not began or began[0] + self._timeout <= time.monotonic()):
                    break
            self._waiting.discard(job)
            if not future.cancel() and used:
                used[-1].abort()
        except (NotInTime, TimeoutError):
            pass  # there are too many already
        finally:
            self._waiting.discard(job)
        raise StoreUnavailable(
            f"the store at {self.address} did not answer within {self._timeout:g} s; "
            "check that it runs and can be reached, or raise jobtastic_store_timeout"
        )

    def _done(
        self, work: Callable[[Session], T], used: list[Session], is_awaited: Callable[[], bool]
    ) -> T:
        try:
            try:
                return self._once(work, used)
            except Exception as error:
                # The server may have closed a connection that was idle, and all of its age.
                lost = used and isinstance(self._meaning(error), StoreUnavailable)
                if not lost or not is_awaited():
                    raise
                self.close()
                return self._once(work, used)
        except Exception as error:
            raise self._meaning(error) from error

    def _once(self, work: Callable[[Session], T], used: list[Session]) -> T:
        home = self._here()
        try:
            session = home.free.pop()
        except IndexError:
            session = self.connect()
            home.all.add(session)
            self._steps += 1
        used.append(session)
        try:
            result = work(session)
        except BaseException:
            self._drop(home, session)
            raise
        self._steps += 1
        if home is self._home:
            home.free.append(session)
        else:
            self._drop(home, session)
        return result

    def _meaning(self, error: Exception) -> StoreError:
        return error if isinstance(error, StoreError) else self.wrapped(error)

    def _here(self) -> _Home:
        if self._home.pid != os.getpid():
            _inherited.append(self._home)
            self._home = _Home()
        return self._home

    def _drop(self, home: _Home, session: Session) -> None:
        home.all.discard(session)
        with suppress(Exception):
            session.close()


def named(key: str) -> str:
    """Return `key` as every server takes it."""
    if len(key) <= LONGEST_NAME and key.isascii() and key.isprintable() and " " not in key:
        return key
    plain = "".join(c if c.isascii() and c.isprintable() and c != " " else "_" for c in key)
    digest = blake2b(key.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
    return f"{plain[: LONGEST_NAME - 40]}#{digest}"
