"""Processes that call one task together, from many threads each: see `tests.integration.herd`."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import ExitStack
from typing import Any

from tests.workers import ROOT


class Callers:
    """A context manager: they are ready when it is entered, and gone when it is left."""

    def __init__(self, conf: dict[str, Any], processes: int, threads: int) -> None:
        self.setup = {"conf": conf, "threads": threads}
        self.count = processes
        self.processes: list[subprocess.Popen[str]] = []
        self.stack = ExitStack()

    def __enter__(self) -> Callers:
        try:
            for _ in range(self.count):
                self.start()
            self.say(self.setup)
            assert {self.listen(process) for process in self.processes} == {"ready\n"}
        except BaseException:
            self.stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stack.close()

    def start(self) -> None:
        process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", "tests.integration.herd"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.stack.callback(process.communicate)
        self.stack.callback(process.kill)
        self.processes.append(process)

    def call(self, task: str, *args: Any, wait: str = "together") -> list[Any]:
        """What each thread of each process got: the id, and the result if it is to `wait`."""
        self.say({"task": task, "args": args, "wait": wait})
        return [got for process in self.processes for got in json.loads(self.listen(process))]

    def say(self, words: Any) -> None:
        line = json.dumps(words) + "\n"
        for process in self.processes:
            assert process.stdin is not None
            process.stdin.write(line)
            process.stdin.flush()

    def listen(self, process: subprocess.Popen[str]) -> str:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, "a caller died"
        return line
