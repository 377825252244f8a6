"""The browser client: its unit tests under Node, its size, and that its parts agree."""

from __future__ import annotations

import gzip
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.servers import need

ROOT = Path(__file__).resolve().parent.parent
STATIC = ROOT / "jobtastic_ext" / "static" / "jobtastic_ext"
SOURCES = ROOT / "client"
MODULE = STATIC / "jobtastic.js"

LIMIT = 8000


@pytest.fixture(scope="module")
def node() -> str:
    """Path of a Node that has a test runner and fetch."""
    path = need("node")
    version = subprocess.run([path, "--version"], capture_output=True, text=True, check=True)
    major = int(version.stdout.lstrip("v").split(".")[0])
    assert major >= 18, f"Node 18 or newer is needed, this is {version.stdout.strip()}"
    return path


def run(*command: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "NODE_OPTIONS": ""}
    return subprocess.run(
        command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=120, check=False
    )


def test_the_units_hold_under_node(node: str) -> None:
    files = sorted(str(path) for path in (ROOT / "tests" / "js").glob("*.test.mjs"))
    done = run(node, "--test", "--test-reporter=tap", *files)
    assert done.returncode == 0, done.stdout + done.stderr
    ran = re.search(r"^# pass (\d+)$", done.stdout, re.M)
    assert ran, done.stdout
    assert int(ran[1]) >= 40


def test_what_is_shipped_is_made_of_the_sources(node: str) -> None:
    made = run(node, str(SOURCES / "pack.mjs"))
    assert made.returncode == 0, made.stderr
    assert made.stdout == MODULE.read_text("utf-8"), "run `make client`"


def test_what_is_shipped_loads_without_a_page(node: str, tmp_path: Path) -> None:
    """A bundler that renders on the server imports it there."""
    module = shutil.copy(MODULE, tmp_path / "jobtastic.mjs")
    code = f"import('{Path(module).as_uri()}').then((all) => console.log(Object.keys(all).join()))"
    done = run(node, "--eval", code)
    assert done.stdout.strip() == "JobtasticList,JobtasticProgress,strings,watchTask", done.stderr


def test_it_is_small() -> None:
    assert len(gzip.compress(MODULE.read_bytes(), 9)) <= LIMIT


def test_every_export_has_a_type_and_every_text_a_name() -> None:
    types = (STATIC / "jobtastic.d.ts").read_text("utf-8")
    exported = re.search(r"^export ?\{(.*?)\}", MODULE.read_text("utf-8"), re.M)
    assert exported
    for name in exported[1].replace(",", " ").split():
        assert re.search(rf"^export (function|const|class) {name}\b", types, re.M), name
    table = re.search(
        r"strings = \{(.*?)^\};", (SOURCES / "words.js").read_text("utf-8"), re.M | re.S
    )
    typed = re.search(r"interface Strings \{(.*?)^\}", types, re.M | re.S)
    assert table
    assert typed
    names = re.findall(r"^  (\w+):", table[1], re.M)
    assert names == re.findall(r"^  (\w+):", typed[1], re.M)
    assert len(names) > 10
