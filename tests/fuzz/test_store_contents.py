"""Whatever lies under one of our keys: it is a claim, or it counts as absent and is replaced."""

from __future__ import annotations

import json
import logging
import sqlite3
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jobtastic_ext.claims.records import (
    FOREVER,
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
    Value,
)
from jobtastic_ext.stores import open_store
from tests.stores.redis_contract import direct
from tests.thorough import examples

FUZZ = settings(max_examples=examples(300), database=None, suppress_health_check=list(HealthCheck))

NOW = 1_700_000_000_000
CLAIM = Claim(
    holder=Holder(state="running", owner="a", gen="ga", run="a.1", until=FOREVER, orphans=("b",)),
    value=Value(owner="b", gen="gb", ended=NOW, fresh=FOREVER, kept=FOREVER),
    tombstones={"gc:c": FOREVER},
)
GOOD = msgspec.json.encode(CLAIM)
ODD = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=6)
    | st.sampled_from([10**30, -1, 2**63, 2**53 + 1, 1e300, -0.5, "running", "\x00", "9" * 40]),
    lambda below: (
        st.lists(below, max_size=3) | st.dictionaries(st.text(max_size=6), below, max_size=3)
    ),
    max_leaves=5,
)


@st.composite
def damaged(draw: Any) -> bytes:
    """A good claim in which fields were changed."""
    claim = json.loads(GOOD)
    for _ in range(draw(st.integers(1, 3))):
        part = draw(st.sampled_from([claim, *(p for p in claim.values() if isinstance(p, dict))]))
        name = draw(st.sampled_from([*part, "more"]))
        part[name] = draw(ODD)
    raw = json.dumps(claim).encode()
    if draw(st.booleans()):
        place = draw(st.integers(0, len(raw) - 1))
        raw = raw[:place] + draw(st.binary(min_size=1, max_size=3)) + raw[place + 1 :]
    return raw


CONTENTS = (
    st.binary(max_size=80)
    | st.integers(0, len(GOOD)).map(lambda length: GOOD[:length])
    | damaged()
    | ODD.map(lambda value: json.dumps(value).encode())
    | st.integers(1, 50_000).map(lambda depth: b'{"holder":' + b"[" * depth)
    | st.integers(1, 2_000).map(lambda depth: b"[" * depth + b"]" * depth)
)
OPERATIONS: list[Operation] = [
    ClaimCall(task_id="x", gen="gx", hold=1_000),
    ClaimCall(task_id="x", gen="gx", hold=1_000, pinned=True, refresh=True),
    Begin(task_id="x", run="x.1", lease=1_000, herd=1_000),
    Ending(task_id="a", run="a.1"),
    Finish(task_id="a", run="a.1", gen="ga", fresh=1_000, stale=0, keep=1_000, hold=1_000),
    Release(task_id="a", run="a.1", hold=1_000, give_up=1_000),
    Requeue(task_id="a", run="a.1", hold=1_000, attempt=1),
    Renew(task_id="a", run="a.", lease=1_000),
    Lapse(task_id="a", gen="ga"),
    Forget(),
]


class Place:
    """A store, and a way to write under its keys past it."""

    def __init__(self, url: str, client: redis.Redis | None, path: Path | None) -> None:
        self.store = open_store(url, timeout=5)
        self.client, self.path = client, path

    def put(self, key: str, raw: bytes) -> None:
        if self.client is not None:
            self.client.set(key, raw)
            return
        assert self.path is not None
        self.store.apply(key, OPERATIONS[0])
        with sqlite3.connect(self.path) as database:
            database.execute("UPDATE claims SET claim = ? WHERE key = ?", (raw, key))
        database.close()


@pytest.fixture(scope="module", params=["redis", "sqlite"])
def place(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Place]:
    if request.param == "sqlite":
        path = tmp_path_factory.mktemp("fuzz") / "claims.sqlite3"
        place = Place(f"sqlite:///{path}", None, path)
        yield place
        place.store.close()
        return
    server = request.getfixturevalue("redis_server")
    with direct(server.port, db=7) as client:
        place = Place(server.url(7), client, None)
        yield place
        place.store.close()


@FUZZ
@given(raw=CONTENTS, operation=st.sampled_from(OPERATIONS))
def test_garbage_is_absent_or_a_claim(
    place: Place, raw: bytes, operation: Operation, caplog: pytest.LogCaptureFixture
) -> None:
    key = f"fuzz:{uuid.uuid4().hex}"
    place.put(key, raw)
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        found = place.store.read(key)
        assert found is None or isinstance(found, Claim)
        place.store.read(key)
        answer = place.store.apply(key, operation)
        assert answer.word
        assert all(isinstance(part, str) for part in (answer.id, answer.gen, *answer.ids))
        # Whatever it was, what is there now can be read, and the key can be used.
        place.store.apply(key, Forget())
        place.store.apply(key, Begin(task_id="z", run="z.1", lease=1_000, herd=1_000))
        after = place.store.read(key)
    assert isinstance(after, Claim)
    assert sum(key in record.getMessage() for record in caplog.records) <= 1
