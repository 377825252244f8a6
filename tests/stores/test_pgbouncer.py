"""PostgreSQL behind PgBouncer, which lends a server's connection for one transaction."""

from __future__ import annotations

import socket
import subprocess
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from jobtastic_ext.stores import open_store
from jobtastic_ext.testing.server import LOOPBACK, free_port
from tests.databases import Database
from tests.servers import wait_until
from tests.stores.contract import JOINED, begin, call
from tests.untried import need

pytest.importorskip("psycopg")

SETTINGS = """
[databases]
test = host={host} port={target} user=postgres
[pgbouncer]
listen_addr = {host}
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 2
{more}
"""


@pytest.fixture(params=["", "ignore_startup_parameters = options"], ids=["as it comes", "told"])
def url(request: pytest.FixtureRequest, postgres: Database, tmp_path: Path) -> Iterator[str]:
    port = free_port()
    settings = SETTINGS.format(host=LOOPBACK, target=postgres.port, port=port, more=request.param)
    file = tmp_path / "pgbouncer.ini"
    file.write_text(settings)
    command = [need("pgbouncer"), "-q", "/dev/stdin"]  # it refuses to be root
    with file.open("rb") as words, (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, stdin=words, stderr=log, user=postgres.user)
    try:
        wait_until(lambda: greets(port))
        yield f"db+postgresql://postgres@{LOOPBACK}:{port}/test"
    finally:
        process.kill()
        process.wait(30)


def greets(port: int) -> bool:
    with suppress(OSError), socket.create_connection((LOOPBACK, port), 5):
        return True
    return False


def test_it_needs_no_setting(url: str) -> None:
    key = uuid.uuid4().hex
    stores = [open_store(url, timeout=10) for _ in range(3)]
    try:
        with ThreadPoolExecutor(12) as pool:
            calls = [pool.submit(stores[n % 3].apply, key, call(f"t{n}")) for n in range(24)]
            words = [each.result().word for each in calls]
        assert words.count("claimed") == 1
        assert all(word in JOINED for word in words if word != "claimed")
        (owner,) = {each.result().id for each in calls}
        assert stores[0].apply(key, begin(owner)).word == "run"
    finally:
        for store in stores:
            store.close()
