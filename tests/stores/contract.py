"""What every store must do.  A store's tests inherit `StoreContract` and say how to open it."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from msgspec.structs import replace

from jobtastic_ext.claims.records import (
    FOREVER,
    LINGER,
    Answer,
    Begin,
    Claim,
    ClaimCall,
    Ending,
    Finish,
    Forget,
    Holder,
    Lapse,
    Release,
    Renew,
    Requeue,
    Value,
)
from jobtastic_ext.stores import Store, open_store
from tests.servers import TIMEOUT as PATIENCE
from tests.servers import wait_until

#: What is no claim, whatever the store calls a value.
GARBAGE = [
    b"",
    b"\x00\xff",
    b"hello",
    b'{"holder":{"state":"queued","own',
    b"[]",
    b"[1]",
    b"7",
    b"null",
    b"{}",
    b'{"user":7}',
    b'{"holder":7}',
    b'{"holder":{"state":"queued"}}',
    b'{"holder":{"state":"asleep","owner":"a","gen":"g","until":5000000000000}}',
    b'{"holder":{"state":"queued","owner":1,"gen":"g","until":5000000000000}}',
    b'{"holder":{"state":"queued","owner":"a","gen":"g","until":"never"}}',
    b'{"holder":{"state":"queued","owner":"a","gen":"g","until":5000000000000,"orphans":[1]}}',
    b'{"holder":{"state":"queued","owner":"a","gen":"g","until":5000000000000,"orphans":{"a":"b"}}}',
    b'{"value":{"owner":"a","gen":"g","fresh":"x"}}',
    b'{"started":{"owner":"a","gen":"g","at":1}}',
    b'{"beside":{"a":{"state":"queued"}}}',
    b'{"beside":7}',
    b'{"tombstones":{"a":"b"}}',
    b'{"tombstones":7}',
    b'{"tombstones":{"a":5000000000000.5}}',
    b'{"holder":{"state":"queued","owner":"a","gen":"g","until":5000000000000.5}}',
    b'{"holder":{"state":"queued","owner":"\xff","gen":"g","until":5000000000000}}',
]

#: What a call is told that joins another; after a moment, on a slow machine, the second.
JOINED = ("joined", "overdue")


def call(name: str, hold: int = 60_000, **options: object) -> ClaimCall:
    return ClaimCall(task_id=name, gen=f"g{name}", hold=hold, **options)  # type: ignore[arg-type]


def begin(name: str, lease: int = 60_000) -> Begin:
    return Begin(task_id=name, run=f"{name}.1", gen=f"g{name}", lease=lease, herd=60_000)


def finish(name: str, fresh: int = 0, keep: int = 0) -> Finish:
    run, gen = f"{name}.1", f"g{name}"
    return Finish(task_id=name, run=run, gen=gen, fresh=fresh, stale=0, keep=keep, hold=60_000)


def giving_up(name: str) -> Release:
    return Release(task_id=name, gen=f"g{name}", hold=1, give_up=60_000)


def give_up(store: Store, key: str, name: str) -> None:
    """Leave the mark of a message that may still arrive."""
    store.apply(key, call(name))
    assert store.apply(key, giving_up(name)).word == "ok"


def said(answer: Answer) -> str:
    """Word, id and generation; whoever is to look, a moment later on a busy machine, has joined."""
    word = "joined" if answer.word in JOINED else answer.word
    return f"{word} {answer.id} {answer.gen}".rstrip()


def together(count: int, work: Callable[[int], Answer]) -> list[Answer]:
    """Do `work` in so many threads at one moment."""
    barrier = threading.Barrier(count)

    def one(n: int) -> Answer:
        barrier.wait()
        return work(n)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(one, range(count)))


def mark(writer: str, number: int) -> str:
    """The mark of an addition to counts."""
    return f"{writer:0>12}{number:08x}"


class StoreContract:
    @pytest.fixture
    def url(self) -> str:
        raise NotImplementedError

    @pytest.fixture
    def store(self, url: str) -> Iterator[Store]:
        store = open_store(url, timeout=PATIENCE)
        yield store
        store.close()

    @pytest.fixture
    def key(self) -> str:
        return f"contract-{uuid.uuid4().hex}"

    # The rules

    def test_from_the_call_to_the_cached_result(self, store: Store, key: str) -> None:
        assert said(store.apply(key, call("a"))) == "claimed a ga"
        assert said(store.apply(key, call("b"))) == "joined a ga"
        assert said(store.apply(key, begin("a"))) == "run  ga"
        assert said(store.apply(key, call("b"))) == "joined a ga"
        assert said(store.apply(key, finish("a", fresh=60_000))) == "ok"
        assert said(store.apply(key, call("b"))) == "cached a ga"
        assert said(store.apply(key, Forget())) == "ok"
        assert said(store.apply(key, call("b"))) == "claimed b gb"

    def test_every_operation_on_a_free_key(self, store: Store, key: str) -> None:
        run = {"task_id": "a", "run": "a.1"}
        assert store.apply(key, Requeue(**run, hold=1, attempt=1)).word == "lost"
        assert store.apply(key, Renew(**run, lease=1)).word == "lost"
        assert store.apply(key, Release(task_id="a", hold=1)).word == "lost"
        assert store.apply(key, Lapse(task_id="a", gen="ga")).word == "lost"
        assert store.apply(key, Ending(**run)).word == "lost"
        assert store.apply(key, Forget()).word == "lost"
        assert store.apply(key, finish("a")).word == "lost"
        assert store.read(key) is None

    def test_what_is_read_is_what_was_written(self, store: Store, key: str) -> None:
        before = time.time() * 1000
        give_up(store, key, "x")
        store.apply(key, call("a", group='chörd/\x7f"\\\n', pinned=True))
        claim = store.read(key)
        assert claim is not None
        assert claim.holder is not None
        until = claim.holder.until
        assert claim.holder == Holder(
            state="queued",
            owner="a",
            gen="ga",
            until=until,
            at=claim.holder.at,
            group='chörd/\x7f"\\\n',
        )
        assert before + 55_000 < until < before + 70_000
        assert list(claim.tombstones) == ["gx:x"]

    def test_a_run_beside_the_claim_and_a_start_are_kept(self, store: Store, key: str) -> None:
        early = replace(begin("a"), starts=True, unique=60_000)
        assert said(store.apply(key, call("a"))) == "claimed a ga"
        assert said(store.apply(key, early)) == "run  ga"
        claim = store.read(key)
        assert claim is not None
        assert (claim.holder, list(claim.beside)) == (None, ["a"])
        assert claim.started is not None
        assert claim.started.until == claim.started.at + 60_000
        assert said(store.apply(key, call("b", unique=60_000))) == "joined a ga"
        assert said(store.apply(key, replace(early, run="a.2"))) == "follow a ga"
        assert said(store.apply(key, finish("a"))) == "ok"
        claim = store.read(key)
        assert claim is not None
        assert (claim.beside, claim.started is not None) == ({}, True)

    def test_a_look_tells_whether_a_lease_is_over(self, store: Store, key: str) -> None:
        claim, at = store.look(key)
        assert claim is None
        assert at > 0
        store.apply(key, begin("a", lease=60_000))
        claim, at = store.look(key)
        assert claim is not None
        assert claim.holder is not None
        assert at < claim.holder.until <= at + 60_000
        store.apply(f"{key}-short", begin("a", lease=1))

        def is_over() -> bool:
            claim, at = store.look(f"{key}-short")
            assert claim is not None
            assert claim.holder is not None
            return at >= claim.holder.until

        wait_until(is_over)

    def test_what_lasts_for_ever(self, store: Store, key: str) -> None:
        store.apply(key, begin("a"))
        store.apply(key, finish("a", fresh=FOREVER, keep=LINGER))
        claim = store.read(key)
        assert claim is not None
        assert claim.value is not None
        assert claim.value.fresh == FOREVER
        assert store.apply(key, call("b")).word == "cached"

    def test_keys_are_apart(self, store: Store, key: str) -> None:
        assert store.apply(f"{key}-1", call("a")).word == "claimed"
        assert store.apply(f"{key}-2", call("b")).word == "claimed"
        assert store.apply(f"{key}-1", call("c")).id == "a"

    def test_an_answer_tells_the_time_and_who_else_waits(self, store: Store, key: str) -> None:
        before = time.time() * 1000
        answer = store.apply(key, begin("a", lease=30))
        assert isinstance(answer.at, int)
        assert before - 5_000 < answer.at < before + 5_000
        time.sleep(0.05)
        assert store.apply(key, begin("b")).word == "run"
        assert store.apply(key, finish("b")).ids == ("a",)

    # The store's clock

    def test_a_lease_ends_by_the_stores_clock(self, store: Store, key: str) -> None:
        store.apply(key, begin("a", lease=60_000))
        assert store.apply(key, call("b")).word in JOINED
        short = f"{key}-short"
        store.apply(short, begin("a", lease=500))
        wait_until(lambda: said(store.apply(short, call("b"))) == "takeover a ga")

    def test_what_has_ended_is_gone(self, store: Store, key: str) -> None:
        for name, fresh in ((key, 60_000), (f"{key}-short", 100)):
            store.apply(name, begin("a"))
            store.apply(name, finish("a", fresh=fresh))
        claim = store.read(key)
        assert claim is not None
        assert claim == Claim(value=claim.value)
        wait_until(lambda: store.read(f"{key}-short") is None)
        assert store.apply(f"{key}-short", call("b")).word == "claimed"

    def test_a_part_that_has_ended_is_not_read(self, store: Store, key: str) -> None:
        give_up(store, key, "x")
        store.apply(key, begin("a"))
        store.apply(key, finish("a", fresh=100))
        time.sleep(0.2)
        claim = store.read(key)
        assert claim is not None
        assert claim.value is None
        assert list(claim.tombstones) == ["gx:x"]

    def test_what_ends_at_once_is_not_kept(self, store: Store, key: str) -> None:
        store.apply(key, begin("a"))
        store.apply(key, finish("a"))
        assert store.read(key) is None

    # Atomic

    def test_of_many_callers_one_claims(self, store: Store, key: str) -> None:
        for n in range(20):
            answers = together(8, lambda m, n=n: store.apply(f"{key}-{n}", call(f"t{m}")))
            claimed = [answer for answer in answers if answer.word == "claimed"]
            assert len(claimed) == 1
            assert {answer.id for answer in answers} == {claimed[0].id}

    def test_of_many_messages_one_runs(self, store: Store, key: str) -> None:
        for n in range(20):
            answers = together(8, lambda m, n=n: store.apply(f"{key}-{n}", begin(f"t{m}")))
            assert sorted(answer.word for answer in answers) == ["follow"] * 7 + ["run"]

    def test_no_change_is_lost(self, store: Store, key: str) -> None:
        def work(n: int) -> Answer:
            while store.apply(key, call(f"t{n}")).id != f"t{n}":
                time.sleep(0.001)
            return store.apply(key, giving_up(f"t{n}"))

        together(8, work)
        claim = store.read(key)
        assert claim is not None
        assert sorted(claim.tombstones) == [f"gt{n}:t{n}" for n in range(8)]

    # Open and closed

    def test_a_closed_store_opens_again(self, store: Store, key: str) -> None:
        store.ping()
        store.apply(key, call("a"))
        store.close()
        store.close()
        assert said(store.apply(key, call("b"))) == "joined a ga"
        store.close()
        assert store.read(key) is not None
        store.close()
        store.ping()

    def test_closed_while_in_use(self, store: Store, key: str) -> None:
        def work(n: int) -> Answer:
            for m in range(50):
                if n == 0:
                    store.close()
                answer = store.apply(f"{key}-{n}-{m}", call("a"))
                assert answer.word == "claimed"
            return answer

        together(6, work)

    def test_two_stores_of_one_url_share_claims(self, url: str, store: Store, key: str) -> None:
        other = open_store(url, timeout=PATIENCE)
        assert store.apply(key, call("a")).word == "claimed"
        assert other.apply(key, call("b")).word in JOINED
        other.close()

    # Small values

    def test_counts_are_added_up(self, store: Store, key: str) -> None:
        assert store.totals([]) == []
        assert store.totals([key, f"{key}2"]) == [{}, {}]
        store.add(key, {"ran": 2, "joined": 7}, 60_000, mark("a", 1))
        store.add(key, {"ran": 1}, 60_000, mark("b", 1))
        store.add(f"{key}2", {"failed": 10**9}, 60_000, mark("b", 2))
        assert store.totals([key, f"{key}2"]) == [{"ran": 3, "joined": 7}, {"failed": 10**9}]

    def test_an_addition_that_is_made_again_counts_once(self, store: Store, key: str) -> None:
        for each in (mark("a", 9), mark("b", 9), mark("a", 9), mark("b", 9), mark("a", 10)):
            store.add(key, {"ran": 1}, 60_000, each)
        store.add(key, {"ran": 1}, 60_000, mark("a", 9))  # it arrives when the next one has
        assert store.totals([key]) == [{"ran": 3}]

    def test_many_writers_make_their_last_additions_again(self, store: Store, key: str) -> None:
        for n in (1, 1, 2, 2):
            for writer in range(40):
                store.add(key, {"ran": 1}, 60_000, mark(f"{writer:03x}", n))
        assert store.totals([key]) == [{"ran": 80}]

    def test_counts_end(self, store: Store, key: str) -> None:
        store.add(key, {"ran": 1}, 50, mark("a", 1))
        time.sleep(0.2)
        assert store.totals([key]) == [{}]

    def test_of_many_who_add_at_once_none_is_lost(self, store: Store, key: str) -> None:
        def one(n: int) -> None:
            for i in range(5):
                store.add(key, {"ran": 1, f"of {n}": 1}, 60_000, mark(str(n), i))

        with ThreadPoolExecutor(6) as pool:
            list(pool.map(one, range(6)))
        assert store.totals([key]) == [{"ran": 30, **{f"of {n}": 5 for n in range(6)}}]

    def test_claims_are_listed(self, store: Store, key: str) -> None:
        for n in range(30):
            store.apply(f"{key}:{n}", call(f"a{n}"))
        store.apply(f"{key}:30", begin("a30"))
        store.apply(f"{key}:31", call("a31", hold=0))  # which leaves nothing
        store.apply(f"{key[:-1]}:1", call("other"))
        store.add(f"{key}:%counts:x:1", {"ran": 1}, 60_000, mark("a", 1))
        store.swap(f"{key}:%history:x", None, b"-x", 60_000)
        found = {name: claim for page in store.pages(f"{key}:") for name, claim in page}
        assert found == {f"{key}:{n}": store.read(f"{key}:{n}") for n in range(31)}
        assert [one for page in store.pages(f"{key}-none:") for one in page] == []

    def test_claims_on_many_pages(
        self, store: Store, key: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name, module in sys.modules.copy().items():
            if name.startswith("jobtastic_ext.stores.") and hasattr(module, "PAGE"):
                monkeypatch.setattr(module, "PAGE", 7)
        names = [f"{key}:{n}" for n in range(30)]
        for name in names:
            store.apply(name, call("a"))
        pages = list(store.pages(f"{key}:"))
        assert sorted(name for page in pages for name, _ in page) == sorted(names)
        assert len(pages) > 2

    def test_a_value_is_swapped_only_for_what_is_expected(self, store: Store, key: str) -> None:
        assert store.load([key]) == [None]
        assert not store.swap(key, b"other", b"new", 60_000)
        assert store.swap(key, None, b"one\x00\xff", 60_000)
        assert not store.swap(key, None, b"two", 60_000)
        assert store.swap(key, b"one\x00\xff", b"two", 60_000)
        assert not store.swap(key, b"one\x00\xff", b"two", 60_000)  # somebody else's
        assert store.load([f"{key}-none", key, key]) == [None, b"two", b"two"]
        assert store.load([]) == []

    def test_a_value_ends(self, store: Store, key: str) -> None:
        store.swap(key, None, b"one", 50)
        time.sleep(0.1)
        assert store.load([key]) == [None]
        assert store.swap(key, None, b"two", 60_000)

    def test_of_many_who_swap_at_once_none_is_lost(self, store: Store, key: str) -> None:
        def add(n: int) -> Answer:
            for _ in range(10):
                done = False
                while not done:
                    (old,) = store.load([key])
                    done = store.swap(key, old, b"%d" % (int(old or 0) + 1), 60_000)
            return Answer("ok")

        together(8, add)
        assert store.load([key]) == [b"80"]


class SharedStoreContract(StoreContract):
    """A store that other processes see, and may write to."""

    #: Of each of eight processes that call at one moment.
    THREADS = 25

    def put(self, store: Store, key: str, raw: bytes) -> None:
        """Write under `key` past the store."""
        raise NotImplementedError

    def test_a_herd_of_many_processes(self, url: str, key: str) -> None:
        processes, threads = 8, self.THREADS
        command = [sys.executable, "-W", "error", "-m", "tests.stores.herd"]
        done = subprocess.run(
            [*command, url, key, str(processes), str(threads)],
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")
        told = json.loads(done.stdout)
        words = [word for word, _, _ in told]
        assert words.count("claimed") == 1, told
        assert sum(word in JOINED for word in words) == processes * threads - 1, told
        assert len({name for _, name, _ in told}) == 1

    def test_forked_while_in_use(self, url: str, key: str) -> None:
        done = subprocess.run(
            [sys.executable, "-W", "error", "-m", "tests.stores.forked", url, key],
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )
        assert (done.stdout, done.returncode) == ("fine\n", 0), done.stderr
        assert done.stderr == ""

    # What somebody else wrote

    @pytest.mark.parametrize("raw", GARBAGE)
    def test_garbage_counts_as_absent(
        self, store: Store, key: str, raw: bytes, caplog: pytest.LogCaptureFixture
    ) -> None:
        self.put(store, key, raw)
        with caplog.at_level(logging.WARNING):
            assert store.read(key) is None
            assert store.read(key) is None
            assert store.apply(key, Lapse(task_id="a", gen="ga")).word == "lost"
        assert len(caplog.records) == 1
        assert key in caplog.text
        assert said(store.apply(key, call("a"))) == "claimed a ga"
        assert said(store.apply(key, call("b"))) == "joined a ga"

    def test_a_field_of_a_later_version_does_no_harm(self, store: Store, key: str) -> None:
        self.put(
            store,
            key,
            b'{"value":{"owner":"a","gen":"ga","fresh":90000000000000,"new":[1,{}],"orphans":7},'
            b'"more":null}',
        )
        assert said(store.apply(key, call("b"))) == "cached a ga"
        claim = store.read(key)
        assert claim == Claim(value=Value(owner="a", gen="ga", fresh=FOREVER))
