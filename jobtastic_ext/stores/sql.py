"""Claims in PostgreSQL, MySQL or MariaDB, by the server's clock.

SQLAlchemy reads the URL and knows the drivers; these are asked directly.  Each statement is a
transaction of its own, so nothing is locked while a message is under way.
"""

from __future__ import annotations

import logging
import os
import random
import re
import socket
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from functools import partial
from importlib.resources import files
from importlib.util import find_spec
from math import ceil
from typing import Any, NamedTuple

from sqlalchemy.engine import Dialect, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError

from ..claims.records import Claim
from ..claims.store import PAGE
from ..errors import ConfigurationError, StoreError, StoreUnavailable
from .compare_and_set import CompareAndSetStore, Entry, Session
from .foreign import LAST, claims_in

logger = logging.getLogger(__name__)

#: One change in so many also removes a bite of expired rows, more than there can be new ones.
PURGE_EVERY = 10
PURGE_BATCH = 30

#: What a server that is up says to somebody whom it does not serve.
REFUSAL = re.compile(
    "authentication failed|no pg_hba.conf entry|does not exist|permission denied|denied for user|"
    "Unknown database|no password supplied|not allowed to connect",
    re.IGNORECASE,
)

#: Codes of both servers for a table that is not there.
NO_TABLE = ("42P01", 1146)

#: What PostgreSQL says if another process makes it at the same moment.
MADE_MEANWHILE = ("23505", "42P07", "42710")

#: What servers say of a statement that they have undone for another's sake: in a deadlock, of which
#: InnoDB has many; where PostgreSQL's transactions are to be stricter; where MariaDB's are; where
#: several servers take writes; and when PostgreSQL's `lock_timeout` was over.
UNDONE = ("40001", "40P01", 1213, 1020, 3101, "55P03")

#: The same of a purge.  MySQL waits for a lock as long as a call waits, so that is over, too.
NOT_PURGED = (*UNDONE, 1205)

#: What PgBouncer says unless it is told to let `options` pass.
NO_OPTIONS = "unsupported startup parameter"

READ = """SELECT clock.now, e.name, e.value, e.version, e.expires
FROM (SELECT {now} AS now) AS clock LEFT JOIN jobtastic_claims AS e ON e.name IN ({names})"""
PAGE_OF = """SELECT {now} AS now, e.name, e.value, e.expires FROM jobtastic_claims AS e
WHERE e.name > %s AND e.name < %s ORDER BY e.name LIMIT %s"""
UPDATE = """UPDATE jobtastic_claims SET value = %s, version = %s, expires = %s
WHERE name = %s AND version = %s"""
INSERT = "INSERT INTO jobtastic_claims (value, version, expires, name) VALUES (%s, %s, %s, %s)"


class Flavour(NamedTuple):
    """In what one kind of database is unlike others."""

    schema: str
    #: Drivers in the order of preference, as SQLAlchemy calls them, and their modules.
    drivers: Mapping[str, str]
    #: Milliseconds since 1970.
    now: str
    insert: str
    #: Finds what has ended and is in nobody's hands, if `purge` does not find it itself.
    expired: str
    purge: str


FLAVOURS = {
    "postgresql": Flavour(
        schema="postgresql.sql",
        drivers={"psycopg": "psycopg", "psycopg2": "psycopg2"},
        now="CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS bigint)",
        insert=f"{INSERT} ON CONFLICT DO NOTHING",
        expired="",
        # Rows in the hands of others are passed by, and one that was renewed meanwhile is kept.
        purge="""DELETE FROM jobtastic_claims WHERE expires <= %s AND name IN (
        SELECT name FROM jobtastic_claims WHERE expires <= %s LIMIT %s FOR UPDATE SKIP LOCKED)""",
    ),
    "mysql": Flavour(
        schema="mysql.sql",
        drivers={"mysqldb": "MySQLdb", "pymysql": "pymysql"},
        # No time zone takes part, so none has an hour twice.
        now="TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(3)) DIV 1000",
        insert=INSERT,
        # In two steps, for want of one that passes by; to servers too old for it a comment.
        expired="""SELECT name FROM jobtastic_claims WHERE expires <= %s LIMIT %s
        /*!80001 FOR UPDATE SKIP LOCKED */ /*M!100600 FOR UPDATE SKIP LOCKED */""",
        purge="DELETE FROM jobtastic_claims WHERE expires <= %s AND name IN ({names})",
    ),
}
FLAVOURS["mariadb"] = FLAVOURS["mysql"]


def schema(url: str) -> str:
    """Return the SQL that makes what a store at `url` needs."""
    return files(__package__).joinpath(flavour_of(url).schema).read_text(encoding="utf-8")


def flavour_of(url: str) -> Flavour:
    return FLAVOURS[re.split(r"[+:]", url.removeprefix("db+"))[0]]


class SQLStore(CompareAndSetStore):
    """Claims in the database that `url` names as Celery's result backend does.

    The table is made when it is first missed.  `connect_args` go to the driver.
    """

    def __init__(
        self, url: str, *, timeout: float = 0.5, connect_args: Mapping[str, Any] | None = None
    ) -> None:
        self._flavour, self._schema = flavour_of(url), schema(url)
        try:
            self._url = make_url(url.removeprefix("db+"))
            if "+" not in self._url.drivername:
                named = f"{self._url.drivername}+{self._driver()}"
                self._url = self._url.set(drivername=named)
            kind = self._url.get_dialect()
            self._dialect: Dialect = kind()
            self._dialect.dbapi = self._dbapi = kind.import_dbapi()
        except NoSuchModuleError as error:
            raise ConfigurationError(f"jobtastic_store: no such database: {error}") from error
        except ImportError as error:
            raise ConfigurationError(
                f"jobtastic_store: the database needs a driver that is not installed: "
                f"{error.name}; install it, or name another, as in db+postgresql+psycopg2://"
            ) from error
        except (ArgumentError, ValueError):
            # What cannot be read may hold a password.
            raise ConfigurationError(
                "jobtastic_store: the URL of the database cannot be read; expected one such as "
                "db+postgresql://user:password@host:5432/database, special characters as %40"
            ) from None
        place = self._url.query.get("host") or self._url.host or "localhost"
        super().__init__(f"{place}/{self._url.database}", timeout)
        self._connect_args = dict(connect_args or {})
        self._purges = self._bounds_statements = True

    def _driver(self) -> str:
        drivers = self._flavour.drivers
        found = (name for name, module in drivers.items() if find_spec(module))
        return next(found, next(iter(drivers)))

    def pages(self, head: str) -> Iterator[list[tuple[str, Claim]]]:
        after, until = head, head + LAST
        while rows := self._ask(partial(next_page, after, until)):
            after = rows[-1][0]
            yield list(claims_in(rows, self.look("-")[1]))

    def connect(self) -> Session:
        arguments, options = self._dialect.create_connect_args(self._url)
        options = {**options, **self._connect_args}
        bounds = self._bounds(options)
        try:
            connection = self._dbapi.connect(*arguments, **{**bounds, **options})
        except self._dbapi.OperationalError as error:
            ours = "options" in bounds and "options" not in options
            if not ours or NO_OPTIONS not in str(error):
                raise
            self._bounds_statements = False
            return self.connect()
        return SQLSession(self, connection)

    def _bounds(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """What keeps a driver from waiting for ever, and a server from working on in vain."""
        seconds = ceil(self._timeout)
        if self._flavour is FLAVOURS["postgresql"]:
            bounds = {
                "connect_timeout": max(seconds, 2),  # the least that libpq knows
                "application_name": "jobtastic_ext",
            }
            if self._bounds_statements:
                milliseconds = max(1, int(self._timeout * 1000))
                bounds["options"] = f"-c statement_timeout={milliseconds}"
            return bounds
        waits = {f"{what}_timeout": seconds for what in ("connect", "read", "write")}
        return {**waits, "init_command": f"SET SESSION innodb_lock_wait_timeout = {seconds}"}

    def wrapped(self, error: Exception) -> StoreError:
        driver = self._dbapi
        words = " ".join(str(error).split())
        if isinstance(error, driver.Error) and REFUSAL.search(words):
            return StoreError(
                f"the database {self.address} refuses: {words}; check the user's rights (the table "
                "is made by `celery jobtastic schema --sql`, run by somebody who may)"
            )
        lost = (driver.OperationalError, driver.InterfaceError, driver.InternalError, OSError)
        if isinstance(error, lost):
            return StoreUnavailable(
                f"the database {self.address} cannot serve: {words}; "
                "check that it runs, can be reached and accepts writes"
            )
        return StoreError(f"the database {self.address} failed: {type(error).__name__}: {words}")

    def purged(self, error: Exception | None) -> None:
        """Log that expired rows can be removed no more, and that they can again; each once."""
        before, self._purges = self._purges, error is None
        if before == self._purges:
            return
        if error is None:
            logger.info("the database %s lets expired claims be removed again", self.address)
        else:
            logger.warning(
                "expired claims cannot be removed from the database %s, and grow in number: %s; "
                "check that the user may DELETE from jobtastic_claims",
                self.address,
                " ".join(str(error).split()),
            )


class SQLSession(Session):
    def __init__(self, store: SQLStore, connection: Any) -> None:
        self._store, self._connection = store, connection
        self._flavour = store._flavour
        # Plans that are prepared do not pass through PgBouncer.
        if hasattr(connection, "prepare_threshold"):
            connection.prepare_threshold = None
        store._dialect.set_isolation_level(connection, "AUTOCOMMIT")

    def ping(self) -> None:
        """Return if the server answers, and would write."""
        super().ping()
        self._execute(UPDATE, (b"", 0, 0, "ping", 0))

    def get(self, names: Sequence[str]) -> tuple[list[Entry], int]:
        query = READ.format(now=self._flavour.now, names=", ".join(["%s"] * len(names)))
        try:
            rows = self._rows(query, names)
        except Exception as error:
            if not is_one_of(NO_TABLE, error):
                raise
            self._create()
            rows = self._rows(query, names)
        now = int(rows[0][0])
        found = {name: entry(now, *rest) for _, name, *rest in rows}
        return [found.get(name, Entry()) for name in names], now

    def page(self, after: str, until: str, most: int) -> list[Any]:
        """Return name and value of what stands between two names, in order; None what has ended."""
        query = PAGE_OF.format(now=self._flavour.now)
        try:
            rows = self._rows(query, (after, until, most))
        except Exception as error:
            if not is_one_of(NO_TABLE, error):
                raise
            return []
        return [(name, bytes(value) if now < ends else b"") for now, name, value, ends in rows]

    def put(self, name: str, old: Entry, new: Entry, expires: int, now: int) -> bool:
        values = (new.raw, new.mark, expires, name)
        try:
            if old.version is None:
                changed = self._execute(self._flavour.insert, values)
            else:
                changed = self._execute(UPDATE, (*values, old.version))
        except self._store._dbapi.Error as error:
            if isinstance(error, self._store._dbapi.IntegrityError) or is_one_of(UNDONE, error):
                return False
            raise
        if changed and random.randrange(PURGE_EVERY) == 0:
            self._purge(now)
        return changed > 0

    def _purge(self, now: int) -> None:
        error: Exception | None = None
        try:
            if not self._flavour.expired:
                self._execute(self._flavour.purge, (now, now, PURGE_BATCH))
            elif rows := self._rows(self._flavour.expired, (now, PURGE_BATCH)):
                names = ", ".join(["%s"] * len(rows))
                values = [now, *(name for (name,) in rows)]
                self._execute(self._flavour.purge.format(names=names), values)
        except self._store._dbapi.Error as caught:
            # The claim is written all the same; there will be another time.
            error = None if is_one_of(NOT_PURGED, caught) else caught
        self._store.purged(error)

    def close(self) -> None:
        self._connection.close()

    def abort(self) -> None:
        # libpq waits for as long as it takes; other drivers were given a time.
        with suppress(Exception):
            fd = os.dup(self._connection.fileno())
            with closing(socket.socket(fileno=fd)) as end:
                end.shutdown(socket.SHUT_RDWR)

    def _create(self) -> None:
        for statement in statements(self._store._schema):
            try:
                self._execute(statement, ())
            except Exception as error:
                if not is_one_of(MADE_MEANWHILE, error):
                    raise

    def _execute(self, statement: str, values: Sequence[Any]) -> int:
        with closing(self._connection.cursor()) as cursor:
            cursor.execute(statement, values)
            return int(cursor.rowcount)

    def _rows(self, query: str, values: Sequence[Any]) -> list[Any]:
        with closing(self._connection.cursor()) as cursor:
            cursor.execute(query, values)
            return list(cursor.fetchall())


def next_page(after: str, until: str, session: Session) -> list[Any]:
    assert isinstance(session, SQLSession)
    return session.page(after, until, PAGE)


def entry(now: int, value: Any, version: Any, expires: Any) -> Entry:
    if version is None or expires is None:
        return Entry()
    return Entry(bytes(value) if now < expires else None, version, version)


def statements(script: str) -> Iterator[str]:
    lines = [line for line in script.splitlines() if not line.startswith("--")]
    return (each for each in "\n".join(lines).split(";") if each.strip())


def is_one_of(codes: Collection[Any], error: Exception) -> bool:
    """Whether it is an error with one of the server's codes."""
    found = {getattr(error, "sqlstate", None), getattr(error, "pgcode", None), *error.args[:1]}
    return not found.isdisjoint(codes)
