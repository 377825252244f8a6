"""mypy and pyright, beside celery-types, find each planted mistake and nothing else."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from tests.untried import missing
from tests.workers import ROOT

GOOD, BAD = (f"tests/types/{name}.py" for name in ("good", "bad"))

#: The lines on which something is wrong.
MISTAKES = [
    (BAD, number)
    for number, line in enumerate((ROOT / BAD).read_text().splitlines(), 1)
    if "# mistake" in line
]


def run(*words: str) -> str:
    for module in (words[0], "celery-stubs"):
        if not (Path(find_spec("celery").origin).parents[1] / module).exists():  # type: ignore[union-attr, arg-type]
            missing(f"{module} is not installed", module=module.replace("-stubs", "-types"))
    command = [sys.executable, "-m", *words, GOOD, BAD]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300).stdout


def test_five_mistakes_are_planted() -> None:
    assert len(MISTAKES) == 5


def test_mypy() -> None:
    words = ("--strict", "--config-file=", "--cache-dir=.mypy_cache/types")
    found = run("mypy", "--follow-imports=silent", *words)
    lines = re.findall(r"^(\S+?):(\d+): error", found, re.MULTILINE)
    assert sorted({(file, int(line)) for file, line in lines}) == MISTAKES, found


def test_pyright() -> None:
    found = run("pyright", "--outputjson", "--pythonpath", sys.executable)
    if not found.startswith("{"):  # it brings its other half when it is first run
        missing("pyright could not bring what it runs on Node", "node")
    errors = json.loads(found)["generalDiagnostics"]
    lines = {
        (str(Path(each["file"]).relative_to(ROOT)), each["range"]["start"]["line"] + 1)
        for each in errors
    }
    assert sorted(lines) == MISTAKES, found
