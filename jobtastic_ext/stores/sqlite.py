"""Claims in an SQLite file, shared by the processes of one machine."""

from __future__ import annotations

import contextlib
import os
import random
import sqlite3
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from importlib.resources import files
from typing import Any, TypeVar

import msgspec

from ..claims.lifetime import expiry, prune
from ..claims.records import EMPTY, Answer, Claim, Operation
from ..claims.rules import step
from ..claims.store import PAGE, Store
from ..errors import ConfigurationError, StoreError, StoreUnavailable
from .foreign import LAST, ForeignValues, claims_in

T = TypeVar("T")

#: One change in so many also removes a bite of expired rows, more than there can be new ones.
PURGE_EVERY = 10
PURGE_BATCH = 30

#: Pages of 4 kB in the log before it is copied into the file, which waits for the disk.
CHECKPOINT = 4_000

#: Seconds between tries while another process writes, drawn at random from this range.
PAUSE = (0.0002, 0.002)

#: Timeouts that a thread waits at most, if others of its process get on meanwhile.
LONGEST_QUEUE = 6

SCHEMA = files(__package__).joinpath("schema.sql").read_text(encoding="utf-8")
SELECT = "SELECT claim, expires FROM claims WHERE key = ?"
UPSERT = "INSERT OR REPLACE INTO claims (key, claim, expires) VALUES (?, ?, ?)"
SELECT_MANY = (
    "SELECT key, claim FROM claims WHERE key > ? AND key < ? AND expires > ? ORDER BY key LIMIT ?"
)
DELETE = "DELETE FROM claims WHERE key = ?"
SELECT_VALUE = "SELECT value FROM histories WHERE key = ? AND expires > ?"
UPSERT_VALUE = "INSERT OR REPLACE INTO histories (key, value, expires) VALUES (?, ?, ?)"
PURGE_VALUES = (
    "DELETE FROM histories WHERE key IN (SELECT key FROM histories WHERE expires <= ? LIMIT ?)"
)
PURGE = "DELETE FROM claims WHERE key IN (SELECT key FROM claims WHERE expires <= ? LIMIT ?)"

encode = msgspec.json.Encoder().encode
decode = msgspec.json.Decoder(Claim).decode

#: Held while a thread is inside SQLite, which is for microseconds.  A fork takes its turn here, and
#: closes the connections first: SQLite's knowledge of which locks the process has, and its own
#: mutexes, do not survive a fork.  A child that inherits them deadlocks, or believes that it has
#: locks on the file which it has not, and the log is removed while it writes there.
_inside = threading.RLock()

#: Every store of this process.
_stores: weakref.WeakSet[SQLiteStore] = weakref.WeakSet()


def _before_fork() -> None:
    _inside.acquire()
    for store in list(_stores):
        store.disconnect()


def _after_fork() -> None:
    # A server that forks in C, such as uWSGI, may call this without the other.
    with contextlib.suppress(RuntimeError):
        _inside.release()


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork)

#: Connections that came over such a fork: not ours to use, nor to close.
_inherited: list[sqlite3.Connection] = []


def wall_clock() -> int:
    """The machine's time in milliseconds."""
    return time.time_ns() // 1_000_000


class SQLiteStore(Store):
    """Claims in the file at `path`; one call waits `timeout` seconds at most for other processes.

    Shared by all processes of one machine, by the machine's clock; not on a network file system,
    where SQLite's shared memory does not work.  The file is created for its owner alone (0600).
    Raises `ConfigurationError` when `path` cannot be a database file.

    A process has one connection, and its threads take turns.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        timeout: float = 0.5,
        clock: Callable[[], int] = wall_clock,
    ) -> None:
        self.path = os.path.abspath(os.path.expanduser(os.fspath(path)))
        self._timeout = timeout
        self._clock = clock
        self._foreign = ForeignValues(self.path)
        self._connection: sqlite3.Connection | None = None
        #: Calls that were answered so far.
        self._served = 0
        self._file: tuple[int, int] | None = None
        self._pid = os.getpid()
        check_path(self.path)
        with _inside:
            _stores.add(self)

    def __repr__(self) -> str:
        return f"<SQLiteStore {self.path}>"

    def apply(self, key: str, operation: Operation) -> Answer:
        return self._retried(
            lambda connection: (
                self._look(connection, key, operation) or self._change(connection, key, operation)
            )
        )

    def read(self, key: str) -> Claim | None:
        claim = self._retried(lambda connection: self._load(connection, key, self._clock()))
        return None if claim == EMPTY else claim

    def load(self, keys: Sequence[str]) -> list[bytes | None]:
        return self._retried(
            lambda connection: [self._value(connection, key, self._clock()) for key in keys]
        )

    def swap(self, key: str, old: bytes | None, new: bytes, ttl: int) -> bool:
        return self._retried(lambda connection: self._swap(connection, key, old, new, ttl))

    def pages(self, head: str) -> Iterator[list[tuple[str, Claim]]]:
        after, until, now = head, head + LAST, self._clock()
        while True:
            rows = self._retried(partial(rows_of, (after, until, now, PAGE)))
            if not rows:
                return
            after = rows[-1][0]
            yield list(claims_in(rows, now))

    def ping(self) -> None:
        self._retried(lambda connection: connection.execute(SELECT, ("",)).fetchall())

    def close(self) -> None:
        with _inside:
            self.disconnect()

    # One operation

    def _look(
        self, connection: sqlite3.Connection, key: str, operation: Operation
    ) -> Answer | None:
        """The answer, if the operation leaves the claim as it is.

        So it is with most calls: they join.  In WAL mode a reader waits for nobody.
        """
        now = self._clock()
        old = self._load(connection, key, now)
        new, answer = step(operation, old, now)
        return answer if new == old else None

    def _change(self, connection: sqlite3.Connection, key: str, operation: Operation) -> Answer:
        connection.execute("BEGIN IMMEDIATE")
        now = self._clock()
        old = self._load(connection, key, now)
        new, answer = step(operation, old, now)
        if new != old:
            ends = expiry(new)
            if ends > now:
                connection.execute(UPSERT, (key, encode(new), ends))
            else:
                connection.execute(DELETE, (key,))
            if random.randrange(PURGE_EVERY) == 0:
                connection.execute(PURGE, (now, PURGE_BATCH))
        connection.execute("COMMIT")
        return answer

    def _load(self, connection: sqlite3.Connection, key: str, now: int) -> Claim:
        rows = connection.execute(SELECT, (key,)).fetchall()
        if not rows or rows[0][1] <= now:
            return EMPTY
        try:
            claim = decode(rows[0][0])
        except (msgspec.DecodeError, UnicodeDecodeError, TypeError):
            claim = EMPTY
        if claim == EMPTY:  # which is never stored
            self._foreign.noticed(key)
        return prune(claim, now)

    def _value(self, connection: sqlite3.Connection, key: str, now: int) -> bytes | None:
        rows = connection.execute(SELECT_VALUE, (key, now)).fetchall()
        return bytes(rows[0][0]) if rows else None

    def _swap(
        self, connection: sqlite3.Connection, key: str, old: bytes | None, new: bytes, ttl: int
    ) -> bool:
        connection.execute("BEGIN IMMEDIATE")
        now = self._clock()
        expected = self._value(connection, key, now) == old
        if expected:
            connection.execute(UPSERT_VALUE, (key, new, now + ttl))
            if random.randrange(PURGE_EVERY) == 0:
                connection.execute(PURGE_VALUES, (now, PURGE_BATCH))
        connection.execute("COMMIT")
        return expected

    # The connection

    def _retried(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do `work`; again while another process holds the file, until the timeout.

        SQLite's own busy handler backs off to 100 ms, which lets late comers pass and starves the
        first; short random pauses do not.  While other threads of this process get on, the
        timeout begins anew: with many threads and little processor time the queue is long, which
        is no fault of the store, and to run all those calls would make it longer.
        """
        busy: sqlite3.OperationalError | None = None
        for _ in range(LONGEST_QUEUE):
            served, deadline = self._served, time.monotonic() + self._timeout
            while _inside.acquire(timeout=max(0.0, deadline - time.monotonic())):
                try:
                    result = self._done(work)
                    self._served += 1
                    return result
                except sqlite3.OperationalError as error:
                    if not is_busy(error):
                        raise self._failed(error) from error
                    busy = error
                except (sqlite3.Error, OSError) as error:
                    raise self._failed(error) from error
                finally:
                    _inside.release()
                pause = random.uniform(*PAUSE)
                if time.monotonic() + pause >= deadline:
                    break
                time.sleep(pause)
            if self._served == served:
                break
        raise self._too_late() from busy

    def _done(self, work: Callable[[sqlite3.Connection], T]) -> T:
        connection = self._connected()
        try:
            return work(connection)
        finally:
            if connection.in_transaction:
                # It failed half-way, or an exception came from outside, a soft time limit say.
                connection.rollback()

    def _connected(self) -> sqlite3.Connection:
        if self._connection is not None:
            if self._pid != os.getpid():
                _inherited.append(self._connection)
                self._connection = None
            elif identity(self.path) != self._file:
                # Somebody removed the file; what is written to it now, nobody else would see.
                self.disconnect()
        if self._connection is None:
            self._connection = connect(self.path)
            self._file, self._pid = identity(self.path), os.getpid()
        return self._connection

    def disconnect(self) -> None:
        """Close the connection, if there is one.  The caller holds `_inside`."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _too_late(self) -> StoreUnavailable:
        return StoreUnavailable(
            f"the SQLite store {self.path} was kept locked by others for {self._timeout:g} s; "
            "raise jobtastic_store_timeout, or use Redis for this much traffic"
        )

    def _failed(self, error: Exception) -> StoreError:
        return StoreError(
            f"the SQLite store {self.path} failed: {error}; check the file's permissions and "
            "the space on its disk, and move the file away if it is damaged (claims are "
            "rebuilt by the next calls)"
        )


def rows_of(values: tuple[str, str, int, int], connection: sqlite3.Connection) -> list[Any]:
    return connection.execute(SELECT_MANY, values).fetchall()


def connect(path: str) -> sqlite3.Connection:
    if not os.path.exists(path):
        create(path)
    connection = opened(path)
    try:
        # Both change nothing in a file that `create` has made.
        ((mode,),) = connection.execute("PRAGMA journal_mode = WAL").fetchall()
        if mode != "wal":
            raise sqlite3.NotSupportedError(f"no write-ahead log here (mode {mode!r})")
        connection.executescript(SCHEMA)
        # A power failure may undo the last changes, but damages nothing.
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT}")
    except BaseException:
        connection.close()
        raise
    return connection


def create(path: str) -> None:
    """Put an empty store at `path`, all at once, unless somebody else does.

    In place it would take exclusive locks and waits for the disk, while a whole herd looks on.
    """
    draft = f"{path}.{os.getpid()}.{threading.get_ident()}.new"
    # The files that SQLite puts beside it will have the same mode.
    os.close(os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    try:
        with contextlib.closing(opened(draft)) as connection:
            connection.execute("PRAGMA synchronous = OFF")
            connection.execute("PRAGMA journal_mode = WAL")
            connection.executescript(SCHEMA)
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)
    finally:
        os.unlink(draft)


def opened(path: str) -> sqlite3.Connection:
    return sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)


def check_path(path: str) -> None:
    directory = os.path.dirname(path)
    if not os.path.isdir(directory):
        problem = f"the directory {directory} does not exist; create it"
    elif os.path.isdir(path):
        problem = "it is a directory; name a file in it"
    elif not os.access(directory, os.W_OK | os.X_OK):
        problem = f"no file can be created in {directory}; make it writable for this user"
    elif os.path.exists(path) and not os.access(path, os.R_OK | os.W_OK):
        problem = "the file cannot be read and written; make it so for this user"
    else:
        return
    raise ConfigurationError(f"jobtastic_store: the file {path} cannot be used: {problem}")


def identity(path: str) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def is_busy(error: sqlite3.OperationalError) -> bool:
    # "database is locked", "database table is locked"; the error code itself came in Python 3.11.
    return "is locked" in str(error)
