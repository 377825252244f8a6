"""What every store that compares and sets must do beside the contract, when its server is away."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from jobtastic_ext.errors import StoreUnavailable
from jobtastic_ext.stores import Store, open_store
from jobtastic_ext.stores.compare_and_set import CompareAndSetStore, Session
from tests.servers import Proxy, SilentServer, closed_port
from tests.stores.contract import JOINED, PATIENCE, call, said

#: Of the stores whose server is away.
TIMEOUT = 0.5


class AwayContract:
    """Inherited beside `SharedStoreContract`; `place` gives the URL with another port."""

    port = 0

    def place(self, port: int) -> str:
        raise NotImplementedError

    @pytest.fixture
    def proxy(self, url: str) -> Iterator[Proxy]:
        with Proxy(self.port) as proxy:
            yield proxy

    @pytest.fixture
    def bounded(self, proxy: Proxy) -> Iterator[Store]:
        store = open_store(self.place(proxy.port), timeout=TIMEOUT)
        yield store
        store.close()

    def test_nobody_listens(self, url: str) -> None:
        store = open_store(self.place(closed_port()), timeout=TIMEOUT)
        with waits_at_most(2 * TIMEOUT), pytest.raises(StoreUnavailable):
            store.ping()
        store.close()

    def test_a_server_that_accepts_and_is_silent(self, url: str) -> None:
        with SilentServer() as silent:
            store = open_store(self.place(silent.port), timeout=TIMEOUT)
            for _ in range(3):
                with waits_at_most(2 * TIMEOUT), pytest.raises(StoreUnavailable):
                    store.apply("k", call("a"))
            store.close()

    def test_silent_in_the_middle_and_back(self, bounded: Store, proxy: Proxy, key: str) -> None:
        first(lambda: said(bounded.apply(key, call("a"))), "claimed a ga")
        proxy.be_silent()
        for _ in range(3):
            with waits_at_most(2 * TIMEOUT), pytest.raises(StoreUnavailable):
                bounded.apply(key, call("b"))
        proxy.open()
        first(lambda: bounded.apply(key, call("b")).word in JOINED, True)

    def test_a_restart_costs_no_call(self, proxy: Proxy, key: str) -> None:
        """Connections that were idle are closed by then; the call opens another."""
        store = open_store(self.place(proxy.port), timeout=PATIENCE)
        assert said(store.apply(key, call("a"))) == "claimed a ga"
        proxy.refuse()
        proxy.open()
        assert store.apply(key, call("b")).word in JOINED
        store.close()

    @pytest.mark.parametrize("written", [True, False])
    def test_cut_while_it_is_written(self, store: Store, key: str, written: bool) -> None:
        """The caller learns whether it has the claim, though the answer was lost."""
        assert isinstance(store, CompareAndSetStore)
        with cut(store, written):
            assert said(store.apply(key, call("a"))) == "claimed a ga"
        assert store.apply(key, call("b")).id == "a"

    def test_cut_and_changed_by_others_since(self, store: Store, url: str, key: str) -> None:
        """Nobody can tell then whose the claim was, and nobody is told that it is theirs."""
        assert isinstance(store, CompareAndSetStore)
        other = open_store(url, timeout=PATIENCE)
        with (
            cut(store, False, lambda: other.apply(key, call("b"))),
            pytest.raises(StoreUnavailable, match="cannot be told"),
        ):
            store.apply(key, call("a"))
        assert store.apply(key, call("c")).id == "b"
        other.close()

    def test_few_connections(self, store: Store, key: str) -> None:
        assert isinstance(store, CompareAndSetStore)
        crowd = [threading.Thread(target=store.apply, args=(key, call("a"))) for _ in range(20)]
        for thread in crowd:
            thread.start()
        for thread in crowd:
            thread.join()
        assert len(store._home.all) <= 2

    def test_long_and_odd_keys_are_told_apart(self, store: Store, key: str) -> None:
        odd = [f"{key}:{rest}" for rest in ("x" * 400, "x" * 399 + "y", "a b", "a_b", "é", "%s%%")]
        for n, name in enumerate(odd):
            assert store.apply(name, call(f"t{n}")).word == "claimed", name
        assert [store.apply(name, call("z")).id for name in odd] == [f"t{n}" for n in range(6)]

    def test_a_child_leaves_its_parents_connection_alone(self, store: Store, key: str) -> None:
        store.apply(key, call("a"))
        pid = os.fork()
        if not pid:
            signal.alarm(30)
            os._exit(0 if store.apply(key, call("b")).word in JOINED else 1)
        assert os.waitpid(pid, 0)[1] == 0
        assert isinstance(store, CompareAndSetStore)
        before = set(store._home.all)
        assert store.apply(key, call("c")).word in JOINED
        assert set(store._home.all) == before, "it had to be opened again"


@contextmanager
def waits_at_most(seconds: float) -> Iterator[None]:
    """A busy machine is late: what is kept out is a wait without an end."""
    began = time.monotonic()
    yield
    assert time.monotonic() - began < seconds + 5


@contextmanager
def cut(
    store: CompareAndSetStore, written: bool, meanwhile: Callable[[], object] = lambda: None
) -> Iterator[None]:
    """Lose the first connection on which something is written, before or after it is done."""
    connect, struck = store.connect, []

    def strike() -> Session:
        session = connect()
        put = session.put

        def lost(*arguments: object) -> bool:
            if struck:
                return put(*arguments)  # type: ignore[arg-type]
            struck.append(True)
            if written:
                assert put(*arguments)  # type: ignore[arg-type]
            meanwhile()
            raise ConnectionResetError("cut by the test")

        session.put = lost  # type: ignore[method-assign]
        return session

    store.close()
    store.connect = strike  # type: ignore[method-assign]
    try:
        yield
    finally:
        store.connect = connect  # type: ignore[method-assign]
    assert struck


def first(question: Callable[[], object], answer: object) -> None:
    """Ask until the server is there; a new connection may take longer than a call waits."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            assert question() == answer
            return
        except StoreUnavailable:
            assert time.monotonic() < deadline
