from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from jobtastic_ext.claims.records import LINGER
from jobtastic_ext.errors import ConfigurationError, StoreError, StoreUnavailable
from jobtastic_ext.stores import Store, open_store, sqlite
from jobtastic_ext.stores.sqlite import SQLiteStore
from tests.stores.contract import JOINED, SharedStoreContract, begin, call, finish, together
from tests.thorough import CI


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "claims.sqlite3"


@pytest.fixture
def small_store(path: Path) -> Iterator[SQLiteStore]:
    store = SQLiteStore(path, timeout=0.3)
    yield store
    store.close()


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the write lock, as another process would."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


class TestSQLiteStore(SharedStoreContract):
    @pytest.fixture
    def url(self, path: Path) -> str:
        return f"sqlite:///{path}"

    def put(self, store: Store, key: str, raw: bytes) -> None:
        assert isinstance(store, SQLiteStore)
        store.ping()
        with contextlib.closing(sqlite3.connect(store.path)) as other, other:
            other.execute("INSERT INTO claims VALUES (?, ?, ?)", (key, raw, 90_000_000_000_000))


def test_while_another_writes_a_join_waits_for_nobody(small_store: SQLiteStore, path: Path) -> None:
    small_store.apply("k", call("a"))
    with locked(path):
        # A write would be refused after its timeout.
        assert small_store.apply("k", call("b")).word in JOINED
        assert small_store.read("k") is not None


def test_while_another_writes_a_change_waits_as_long_as_allowed(
    small_store: SQLiteStore, path: Path
) -> None:
    small_store.apply("k", call("a"))
    with locked(path):
        began = time.monotonic()
        with pytest.raises(StoreUnavailable, match=r"claims\.sqlite3 was kept locked .* 0\.3 s"):
            small_store.apply("other", call("b"))
        assert time.monotonic() - began > 0.25
    assert small_store.apply("other", call("b")).word == "claimed"


def test_threads_behind_one_that_waits_keep_to_the_timeout(
    small_store: SQLiteStore, path: Path
) -> None:
    small_store.ping()
    durations = []

    def work(n: int) -> None:
        began = time.monotonic()
        with pytest.raises(StoreUnavailable):
            small_store.apply(f"k{n}", call("a"))
        durations.append(time.monotonic() - began)

    with locked(path):
        together(40, work)  # type: ignore[arg-type]
    assert len(durations) == 40
    assert max(durations) < 40 * 0.3  # not one after the other


def test_only_the_owner_may_read_the_files(small_store: SQLiteStore, path: Path) -> None:
    before = os.umask(0)
    try:
        small_store.apply("k", call("a"))
    finally:
        os.umask(before)
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    assert modes == dict.fromkeys([path.name, f"{path.name}-wal", f"{path.name}-shm"], 0o600)


def test_what_has_ended_is_purged_in_small_batches(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "PURGE_EVERY", 1)
    monkeypatch.setattr(sqlite, "PURGE_BATCH", 3)
    now = 0
    store = SQLiteStore(path, clock=lambda: now)
    for n in range(10):
        store.apply(f"k{n}", begin("a"))
        store.apply(f"k{n}", finish("a", fresh=100))
    now = 200
    with contextlib.closing(sqlite3.connect(path)) as other:
        left = []
        for n in range(4):
            store.apply(f"new-{n}", call("a"))
            left.append(other.execute("SELECT count(*) FROM claims").fetchone()[0] - n - 1)
    store.close()
    assert left == [7, 4, 1, 0]


def test_the_clock_is_given(path: Path) -> None:
    now = 0
    store = SQLiteStore(path, clock=lambda: now)
    store.apply("k", call("a", hold=1_000))
    now = 1_000
    assert store.apply("k", call("b", hold=1_000)).word == "takeover"
    now = 2_000 + LINGER
    assert store.apply("k", call("b")).word == "claimed"
    store.close()


def test_a_removed_file_is_noticed(small_store: SQLiteStore, path: Path) -> None:
    small_store.apply("k", call("a"))
    for file in path.parent.iterdir():
        file.unlink()
    assert small_store.apply("k", call("b")).word == "claimed"
    other = SQLiteStore(path)
    assert other.apply("k", call("c")).id == "b"
    other.close()


def test_an_exception_from_outside_leaves_no_lock_behind(
    small_store: SQLiteStore, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class SoftTimeLimit(BaseException):
        pass

    def strike(*_: object) -> None:
        raise SoftTimeLimit

    small_store.ping()
    with monkeypatch.context() as patch:
        patch.setattr(sqlite, "encode", strike)
        with pytest.raises(SoftTimeLimit):
            small_store.apply("k", call("a"))
    other = SQLiteStore(path)
    assert other.apply("k", call("b")).word == "claimed"
    other.close()
    assert small_store.apply("k", call("c")).id == "b"


def test_a_change_is_not_half_done(small_store: SQLiteStore) -> None:
    small_store.apply("k", begin("a"))
    small_store.apply("k", finish("a"))
    assert small_store.read("k") is None


@pytest.mark.parametrize("content", [b"this is not a database, and long enough to be sure" * 50])
def test_a_file_that_is_no_database(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    store = SQLiteStore(path)
    with pytest.raises(StoreError, match=r"not a database.*move the file away") as caught:
        store.apply("k", call("a"))
    assert not isinstance(caught.value, StoreUnavailable)
    assert isinstance(caught.value.__cause__, sqlite3.DatabaseError)
    store.close()


def test_a_missing_directory(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"nowhere does not exist; create it"):
        SQLiteStore(tmp_path / "nowhere" / "claims")


def test_a_directory(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"is a directory; name a file in it"):
        SQLiteStore(tmp_path)


def test_a_directory_that_vanishes(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    store = SQLiteStore(folder / "claims")
    folder.rmdir()
    with pytest.raises(StoreError, match="No such file or directory"):
        store.ping()
    store.close()


@pytest.mark.skipif(os.geteuid() == 0, reason="run it as an ordinary user: root may write anywhere")
def test_a_directory_that_is_not_ours(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(ConfigurationError, match="make it writable"):
        SQLiteStore(tmp_path / "claims")


def test_relative_and_escaped_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for url, name in [("sqlite:///a.db", "a.db"), ("sqlite:///a%20b.db", "a b.db")]:
        store = open_store(url)
        store.ping()
        store.close()
        assert (tmp_path / name).exists()


def test_a_process_has_one_connection(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []
    real = sqlite.connect
    monkeypatch.setattr(sqlite, "connect", lambda path: opened.append(path) or real(path))
    store = SQLiteStore(path)
    together(8, lambda n: store.apply(f"k{n}", call("a")))
    store.close()
    assert len(opened) == 1


def test_a_fork_carries_no_connection_over(small_store: SQLiteStore) -> None:
    small_store.apply("k", call("a"))
    pid = os.fork()
    if not pid:
        os._exit(0 if small_store._connection is None else 1)
    assert os.waitpid(pid, 0)[1] == 0
    assert small_store.apply("k", call("b")).word in JOINED


def test_many_processes_write_different_keys_and_come_and_go(path: Path) -> None:
    """Whoever closes last removes SQLite's log; nobody else may have it open by then."""
    script = (
        "import sys, threading, warnings\n"
        "from jobtastic_ext.stores import open_store\n"
        "from tests.stores.contract import call\n"
        "store = open_store(sys.argv[1], timeout=5)\n"
        "def work(n):\n"
        "    for m in range(30):\n"
        "        assert store.apply(f'{sys.argv[2]}-{n}-{m}', call('a')).word == 'claimed'\n"
        "        if m % 10 == n: store.close()\n"
        "crowd = [threading.Thread(target=work, args=(n,)) for n in range(5)]\n"
        "[t.start() for t in crowd]; [t.join() for t in crowd]; store.close()\n"
    )
    command = [sys.executable, "-W", "error", "-c", script, f"sqlite:///{path}"]
    rounds = 2 if CI else 1
    for _ in range(rounds):
        crowd = [
            subprocess.Popen([*command, f"{n}-{_}"], stderr=subprocess.PIPE, text=True)
            for n in range(6)
        ]
        assert [process.communicate(timeout=180)[1] for process in crowd] == [""] * 6
    with contextlib.closing(sqlite3.connect(path)) as other:
        assert other.execute("SELECT count(*) FROM claims").fetchone() == (rounds * 6 * 5 * 30,)
        assert other.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_what_has_expired_is_removed_by_those_who_come_after(path: Path) -> None:
    now = [0]
    store = SQLiteStore(path, clock=lambda: now[0])
    for n in range(3_000):
        now[0] += 10
        store.apply(f"k{n}", replace(finish("a", fresh=1_000), unclaimed=True))
    with contextlib.closing(sqlite3.connect(path)) as other:
        ((rows,),) = other.execute("SELECT count(*) FROM claims").fetchall()
    store.close()
    assert 100 <= rows < 300, "100 are alive"


def test_a_full_disk_refuses_changes_and_serves_what_is_there(path: Path) -> None:
    """SQLite says the same when its own bound on the file is reached."""
    store = SQLiteStore(path, timeout=10)
    assert store.apply("early", call("a")).word == "claimed"
    bound = "PRAGMA max_page_count = {}"
    store._retried(lambda connection: connection.execute(bound.format(1)).fetchall())
    with pytest.raises(StoreError, match=r"disk is full; check .* the space on its disk") as caught:
        _ = [store.apply(f"later-{n}", call("a")) for n in range(1000)]
    assert not isinstance(caught.value, StoreUnavailable)
    assert store.apply("early", call("b")).word in JOINED
    store._retried(lambda connection: connection.execute(bound.format(10_000)).fetchall())
    assert store.apply("at last", call("a")).word == "claimed"
    store.close()
