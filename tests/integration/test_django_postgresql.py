"""The example project with RabbitMQ and PostgreSQL alone, as its one command starts it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

from jobtastic_ext.testing.server import free_port
from tests.databases import PostgreSQL
from tests.integration.conftest import wait_until
from tests.workers import ROOT

FOLDER = ROOT / "config_examples" / "django_postgresql"


def test_one_report_for_everybody_who_asks(rabbitmq: Any, tmp_path: Path) -> None:
    pytest.importorskip("django_celery_results")
    psycopg = pytest.importorskip("psycopg")
    port = free_port()

    def read(path: str) -> bytes:
        with urlopen(f"http://127.0.0.1:{port}{path}", timeout=30) as reply:
            return bytes(reply.read())

    def ask(path: str) -> dict[str, Any]:
        return dict(json.loads(read(path)))

    with PostgreSQL() as server, (tmp_path / "log").open("wb") as log:
        place = {"PGHOST": "127.0.0.1", "PGPORT": str(server.port)}
        environ = {**os.environ, **place, "PGUSER": "postgres", "PGDATABASE": "test"}
        environ |= {"BROKER_URL": rabbitmq.url, "PORT": str(port), "PYTHONWARNINGS": "ignore"}
        environ |= {"C_FORCE_ROOT": "1"}
        process = subprocess.Popen(
            [sys.executable, "start.py"],
            cwd=FOLDER,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )

        def first() -> dict[str, Any] | None:
            assert process.poll() is None, (tmp_path / "log").read_text()[-3000:]
            try:
                return ask("/reports/2025/")
            except OSError:
                return None

        try:
            wait_until(first, 120)
            with ThreadPoolExecutor(8) as crowd:
                told = list(crowd.map(ask, ["/reports/2026/"] * 8))
            assert len({each["id"] for each in told}) == 1
            status = told[0]["status"]
            wait_until(lambda: ask(status)["task"]["status"] == "SUCCESS", 60)
            assert ask(status)["task"]["result"] == {"year": 2026, "total": 158028}
            assert ask("/reports/2026/")["id"] == told[0]["id"], "cached"
            assert b'href="/2026/"' in read("/")
            page = read("/2026/").decode()
            assert f'src="{status}"' in page
            for script in re.findall(r'script type="module" src="(.*?)"', page):
                assert b"jobtastic-progress" in read(script)
            with psycopg.connect(server.url) as database:
                rows = database.execute("SELECT name FROM jobtastic_claims").fetchall()
                kept_beside = ("%history", "%counts")
                claims = [name for (name,) in rows if not any(one in name for one in kept_beside)]
                assert len(claims) == 2
        finally:
            process.terminate()
            process.wait(60)
