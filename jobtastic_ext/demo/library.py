"""The job: what stands in the source of Python's standard library.  Plain Python, no Celery."""

from __future__ import annotations

import ast
import sysconfig
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

__all__ = ("Findings", "how_many", "shelf", "volumes")

#: Folders below the standard library's that are not part of it, or not meant to be parsed.
APART = frozenset({"site-packages", "dist-packages", "lib2to3", "__pycache__"})

#: Every so many files, one is parsed to learn how quick this machine is.
SAMPLE = 40

#: As many files as even the quickest machine is given to read.
MOST = 100_000


class Findings:
    """What has been read so far."""

    def __init__(self) -> None:
        self.files = self.lines = self.functions = self.classes = 0
        self.longest = ("", 0)
        self.imports: Counter[str] = Counter()

    def read(self, path: Path) -> None:
        """Parse one file and add what is in it; one that does not parse counts as empty."""
        source = path.read_bytes()
        self.files += 1
        self.lines += source.count(b"\n")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # odd escapes in the sources of tests
            try:
                tree = ast.parse(source)
            except (SyntaxError, ValueError):
                return
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                self.functions += 1
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                self.longest = max(
                    self.longest, (f"{path.stem}.{node.name}", length), key=lambda each: each[1]
                )
            elif isinstance(node, ast.ClassDef):
                self.classes += 1
            elif isinstance(node, ast.Import):
                self.imports.update(alias.name.partition(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                self.imports[node.module.partition(".")[0]] += 1

    def summary(self) -> dict[str, Any]:
        """Return the findings ready for JSON."""
        return {
            "files": self.files,
            "lines": self.lines,
            "functions": self.functions,
            "classes": self.classes,
            "longest": list(self.longest),
            "imports": [list(each) for each in self.imports.most_common(3)],
        }


@cache
def shelf() -> tuple[Path, ...]:
    """Return every source file of the standard library, in one order on every run."""
    root = Path(sysconfig.get_path("stdlib"))
    return tuple(
        path
        for path in sorted(root.rglob("*.py"))
        if APART.isdisjoint(path.relative_to(root).parts) and path.is_file()
    )


def volumes(first: int, count: int) -> Iterator[Path]:
    """Yield so many files from number `first` on, round and round."""
    files = shelf()
    for number in range(first, first + count):
        yield files[number % len(files)]


def how_many(first: int, seconds: float) -> int:
    """Return how many files, from number `first` on, keep this machine busy for so long."""
    rate = seconds_per_byte()
    count = 0
    for path in volumes(first, MOST):
        seconds -= path.stat().st_size * rate
        if seconds <= 0:
            break
        count += 1
    return max(count, 1)


@cache
def seconds_per_byte() -> float:
    findings, sample = Findings(), shelf()[::SAMPLE]
    for path in sample:
        path.read_bytes()  # so that a disk's first answer is not counted forty times over
    began = time.perf_counter()
    for path in sample:
        findings.read(path)
    return (time.perf_counter() - began) / max(sum(path.stat().st_size for path in sample), 1)
