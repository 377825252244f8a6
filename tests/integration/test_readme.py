"""The README's example, as it stands there, in an empty folder."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tests.workers import ROOT

PAGE = """
from flask import Flask
from reports import app
flask_app = Flask("page")
{}
client = flask_app.test_client()
assert client.get("/task/unknown/status/").json["task"]["status"] == "PENDING"
assert b"jobtastic-progress" in client.get("/task/static/jobtastic.js").data
"""


def blocks(kind: str) -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)


def test_the_readme_does_what_it_says(redis_server: Any, tmp_path: Path) -> None:
    module, calls, *others = blocks("python")
    (page,) = (block for block in others if "blueprint" in block)
    (policy,) = blocks("yaml")
    for database in (0, 1):
        module = module.replace(f"redis://localhost/{database}", redis_server.url(8 + database))
    assert "localhost" not in module
    queue = 'app.conf.task_default_queue = "readme"\n'
    (tmp_path / "reports.py").write_text(module + queue)
    (tmp_path / "jobtastic.yaml").write_text(policy)
    (tmp_path / "calls.py").write_text(calls)
    (tmp_path / "page.py").write_text(PAGE.format(page))
    log = tmp_path / "worker.log"
    with log.open("w") as output:
        worker = subprocess.Popen(
            [sys.executable, "-m", "celery", "-A", "reports", "worker", "-c", "2", "-l", "INFO"],
            cwd=tmp_path,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
        try:
            deadline = time.monotonic() + 60
            while " ready." not in log.read_text():
                assert worker.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.05)
            for _ in range(2):  # as often as one likes
                subprocess.run([sys.executable, "calls.py"], cwd=tmp_path, check=True, timeout=180)
            subprocess.run([sys.executable, "page.py"], cwd=tmp_path, check=True, timeout=180)
            checked = subprocess.run(
                [sys.executable, "-m", "celery", "-A", "reports", "jobtastic", "check"],
                cwd=tmp_path,
                capture_output=True,
                text=True,
                timeout=180,
            )
            assert "fine, for 1 of the app's tasks" in checked.stdout
        finally:
            os.killpg(worker.pid, signal.SIGKILL)
            worker.wait()
