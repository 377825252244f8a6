"""Processes that call one task together, from many threads each: see `tests.integration.herd`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import Any

from tests.workers import ROOT


class Callers:
    """A context manager: they are ready when it is entered, and gone when it is left."""

    def __init__(self, conf: dict[str, Any], processes: int, threads: int) -> None:
        self.setup = {"conf": conf, "processes": processes, "threads": threads}

    def __enter__(self) -> Callers:
        self.process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", "tests.integration.herd"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            assert self.ask(self.setup) == "ready\n"
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.communicate()

    def call(self, task: str, *args: Any, wait: str = "together") -> list[Any]:
        """What each thread of each process got: the id, and the result if it is to `wait`."""
        answers: list[Any] = json.loads(self.ask({"task": task, "args": args, "wait": wait}))
        return answers

    def ask(self, words: Any) -> str:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(words) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        assert line, "a caller died"
        return line
