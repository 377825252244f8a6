"""The rules in Python and the rules in Lua are the same rules.

Random operations at random times are carried out by `jobtastic_ext.claims.rules.step` and by the
scripts; each answer and each stored claim must be equal.  The scripts are given the time, which
they take from the server otherwise.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import msgspec
import pytest
import redis
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from jobtastic_ext.claims.lifetime import expiry, prune
from jobtastic_ext.claims.records import (
    EMPTY,
    FOREVER,
    LINGER,
    MOST_MARKS,
    Answer,
    Begin,
    Claim,
    ClaimCall,
    Ending,
    Finish,
    Forget,
    Holder,
    Lapse,
    Operation,
    Release,
    Renew,
    Requeue,
)
from jobtastic_ext.claims.rules import step
from jobtastic_ext.stores.redis import SCRIPTS, RedisStore, answered, encode
from jobtastic_ext.testing.server import EmbeddedServer
from tests.stores.redis_contract import direct
from tests.test_claims import CASES
from tests.thorough import examples

#: Every time is a multiple of this many ms, so that a key which has any time left by the time that
#: the scripts are given does not expire by the server's clock while a case runs.
UNIT = 10_000

START = 1_700_000_000_000 // UNIT * UNIT

task_ids = st.sampled_from(["a", "b", "c", "d"])
#: With nobody: who lets go of the claim that is kept for a line.
owners = st.sampled_from(["", "a", "b", "c", "d"])
gens = st.sampled_from(["", "ga", "gb", "gc", "a.1", "g2"])
runs = st.sampled_from(["a.1", "a.2", "b.1", "b.2", "c.1"])
runs_or_workers = st.sampled_from(["", "a.1", "a.2", "b.1", "c.1", "a.", "b."])
groups = st.sampled_from(["", "", "chord", 'gröup/"\n'])
gone = st.sampled_from(["", "", "a", "b"])
attempts = st.integers(0, 2)
places = st.sampled_from(["", "", "", "x", "y", *(f"p{n}" for n in range(9))])
rarely = st.sampled_from([False, False, False, True])
lengths = st.sampled_from([1, 2, 3, 5, 10, 1_000]).map(lambda n: n * UNIT)
sinces = st.sampled_from([0, 0, START, START + 3 * UNIT, START + 20 * UNIT])
lengths_or_none = st.sampled_from([0, 0, UNIT, 3 * UNIT, 10 * UNIT, FOREVER])

uniques = st.sampled_from([0, 0, 3 * UNIT, 20 * UNIT, FOREVER])
waits = st.sampled_from([0, 0, 0, 2 * UNIT, 30 * UNIT])
debounces = {
    "debounce": st.sampled_from([0, 0, UNIT, 3 * UNIT]),
    "debounce_max": st.sampled_from([5 * UNIT, FOREVER]),
}
arguments = st.sampled_from(["", "", "[[1], {}]", "[[2], {}]"])

operations: st.SearchStrategy[Operation] = st.one_of(
    st.builds(
        ClaimCall,
        task_id=task_ids,
        gen=gens,
        hold=lengths | st.sampled_from([0, FOREVER]),
        pinned=rarely,
        refresh=rarely,
        buffer=rarely,
        unique=uniques,
        countdown=waits,
        arguments=arguments,
        **debounces,
        expires=lengths | st.just(0),
        group=groups,
        gone=gone,
        readable=st.booleans(),
        well=rarely,
    ),
    st.builds(
        Begin,
        task_id=task_ids,
        run=runs,
        lease=lengths | st.just(0),
        herd=lengths,
        gen=gens,
        attempt=attempts,
        group=groups,
        exclusive=rarely,
        starts=st.booleans(),
        unique=uniques,
        gone=gone,
        refresh=rarely,
        since=st.sampled_from([0, 0, START, START + UNIT, START + 10 * UNIT]),
        after=runs | st.just(""),
        bare=rarely,
        redelivered=rarely,
        give_up=st.sampled_from([0, 0, 0, 3 * UNIT]),
        unclaimed=rarely,
        arrival=st.sampled_from([0, 0, 3 * UNIT]),
        unmarked=rarely,
        waited=places,
        heed=st.booleans(),
        arguments=arguments,
        **debounces,
        parked=places,
    ),
    st.builds(Ending, task_id=task_ids, run=runs),
    st.builds(
        Finish,
        task_id=task_ids,
        run=runs,
        gen=gens,
        fresh=lengths_or_none,
        stale=lengths_or_none,
        keep=lengths_or_none,
        hold=lengths,
        failed=rarely,
        attempt=attempts,
        group=groups,
        unclaimed=rarely,
        line=st.booleans(),
    ),
    st.builds(
        Release,
        task_id=owners,
        hold=lengths,
        run=runs_or_workers,
        after=runs | st.just(""),
        gen=gens,
        bare=rarely,
        unserved=rarely,
        silent=rarely,
        give_up=lengths_or_none,
        unclaimed=rarely,
        line=st.booleans(),
    ),
    st.builds(Lapse, task_id=task_ids, gen=gens),
    st.builds(Requeue, task_id=task_ids, run=runs, hold=lengths, attempt=attempts),
    st.builds(Renew, task_id=task_ids, run=runs_or_workers, lease=lengths),
    st.builds(Forget),
)
pauses = st.sampled_from([0, 0, 1, 1, 2, 3, LINGER // UNIT, 2_000]).map(lambda n: n * UNIT)
#: What an operation is about: anybody, or somebody who is there.
aims = st.sampled_from(
    ["", "holder", "holder", "value", "next", "beside", "beside", "gen of holder", "gen of value"]
)
#: When it comes: after a pause, or at the very moment when something ends.
ends = ["until", "herd", "due", "next_due", "fresh", "stale", "kept"]
moments = st.sampled_from(["", "", "", "", *ends])
# Long ones: with a smaller minimum most would end before anything interesting has been built up.
histories = st.lists(st.tuples(pauses, moments, aims, operations), min_size=12, max_size=40)


def aimed(operation: Operation, claim: Claim, aim: str) -> Operation:
    """`operation` as the holder of the claim would send it, or the owner of its value, …"""
    somebody = claim.value if aim.endswith("value") else claim.holder
    if aim == "beside":
        somebody = claim.beside[min(claim.beside)] if claim.beside else None
    if somebody is None or not aim:
        return operation
    fields: dict[str, str] = {"gen": somebody.gen, "group": somebody.group}
    if not aim.startswith("gen"):
        fields["task_id"] = somebody.owner
    if isinstance(somebody, Holder):
        fields["run"] = somebody.run
        if isinstance(operation, Lapse):
            operation = replace(operation, gen=somebody.taker)
        if aim == "next":
            fields |= {"task_id": somebody.next, "gen": somebody.next_gen}
    known = operation.__struct_fields__
    return replace(operation, **{name: to for name, to in fields.items() if to and name in known})


def moment(claim: Claim, name: str, now: int) -> int:
    """When that ends, if it is still to come."""
    parts = (claim.holder, claim.value, claim.started, *claim.beside.values())
    ends = max(getattr(part, name, 0) for part in parts)
    return ends if now < ends < FOREVER else now


class Twins:
    """One key, in Python and in Redis."""

    numbers = itertools.count()

    def __init__(self, store: RedisStore, client: redis.Redis) -> None:
        self.key = f"twins-{next(self.numbers)}"
        self.claim = EMPTY
        self.store = store
        self.client = client
        client.delete(self.key)

    def apply(self, operation: Operation, now: int) -> Answer:
        """Carry it out by both; return the answer if they agree."""
        old = prune(self.claim, now) if now < expiry(self.claim) else EMPTY
        new, answer = step(operation, old, now)
        if new != old:
            self.claim = new if now < expiry(new) else EMPTY
        time = str(now).encode()
        reply = self.store._run(SCRIPTS[type(operation)], self.key, encode(operation), time)
        assert replace(answered(reply), seen=None) == answer
        raw = self.client.get(self.key)
        # What has ended by the given time may be there yet, and is dropped when it is next loaded.
        assert (msgspec.json.decode(raw, type=Claim) if raw else EMPTY) == self.claim
        return answer


@pytest.fixture(scope="module", params=["redis_server", "valkey_server"])
def both(request: pytest.FixtureRequest) -> Iterator[tuple[RedisStore, redis.Redis]]:
    server: EmbeddedServer = request.getfixturevalue(request.param)
    store = RedisStore(server.url(6), timeout=5)
    with direct(server.port, db=6) as client:
        yield store, client
    store.close()


@given(history=histories)
@settings(max_examples=examples(100), database=None)
def test_random_histories(
    both: tuple[RedisStore, redis.Redis], history: list[tuple[int, str, str, Operation]]
) -> None:
    twins, now = Twins(*both), START
    for pause, name, aim, operation in history:
        now = moment(twins.claim, name, now) if name else now + pause
        if now >= FOREVER:  # a moment before it may be one that ends something
            break
        twins.apply(aimed(operation, twins.claim, aim), now)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_case(
    both: tuple[RedisStore, redis.Redis], case: list[tuple[float, Operation, str]]
) -> None:
    twins = Twins(*both)
    for seconds, operation, expected in case:
        now = min(int(seconds * 1000), FOREVER)
        answer = twins.apply(operation, now)
        assert f"{answer.word} {answer.id} {answer.gen}".rstrip() == expected


@pytest.mark.parametrize("step", [UNIT, 0])
def test_the_bound_of_what_is_remembered_of_messages(
    both: tuple[RedisStore, redis.Redis], step: int
) -> None:
    twins = Twins(*both)
    for n in range(MOST_MARKS + 5):
        name, now = f"t{n}", START + n * step
        mark = {"unclaimed": True, "give_up": LINGER}
        twins.apply(Release(task_id=name, hold=1, gen="g", **mark), now)
        twins.apply(Begin(task_id=name, run="r", lease=0, herd=0, gen="h", arrival=LINGER), now)
    assert len(twins.claim.tombstones) == len(twins.claim.arrivals) == MOST_MARKS
