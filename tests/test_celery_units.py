"""Celery's own unit tests end alike with and without our patch on `Task`.

Takes a few minutes and a package index, so it runs in CI, and elsewhere with
JOBTASTIC_CELERY_UNITS=1.
"""

from __future__ import annotations

import faulthandler
import os
import subprocess
import sys
import tarfile
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import celery
import pytest

from tests.workers import ROOT

WANTED = {os.environ.get("CI"), os.environ.get("JOBTASTIC_CELERY_UNITS")} - {None, "", "0"}

#: What these tests import beside Celery.
NEEDED = (
    "cryptography",
    "freezegun",
    "pydantic",
    "pytest",
    "pytest-celery",
    "pytest-click",
    "pytest-order",
    "pytest-rerunfailures",
    "pytest-subtests",
    "pytest-timeout",
)

#: Without stamping, which takes nine tenths of the time in 27,000 combinations of one visitor of
#: signatures: what it sends goes through the canvas, whose tests are here.
FOLDERS = ("t/unit/tasks", "t/unit/app", "--ignore=t/unit/tasks/test_stamping.py")


@pytest.mark.skipif(not WANTED, reason="slow; set JOBTASTIC_CELERY_UNITS=1 to run it")
def test_celerys_own_tests_end_alike(tmp_path: Path) -> None:
    # Beside others it takes longer than pytest lets a test hang; each of its steps has a bound.
    faulthandler.cancel_dump_traceback_later()
    python = str(tmp_path / "venv/bin/python")
    run(sys.executable, "-m", "venv", tmp_path / "venv")
    run(
        python,
        "-m",
        "pip",
        "install",
        "-q",
        "--no-compile",
        f"celery[redis]=={celery.__version__}",
        *NEEDED,
        ROOT,
    )
    source = ["--no-deps", "--no-binary", "celery", f"celery=={celery.__version__}"]
    run(python, "-m", "pip", "download", "-q", *source, "-d", tmp_path)
    (archive,) = tmp_path.glob("celery-*.tar.gz")
    with tarfile.open(archive) as files:
        files.extractall(tmp_path, filter="data")
    tree = tmp_path / archive.name.removesuffix(".tar.gz")
    script = "import sys, pytest; {}; sys.exit(pytest.main(sys.argv[1:]))"
    both = {
        kind: subprocess.Popen(
            [
                *(python, "-c", script.format(statement), "-q", "-p", "no:cacheprovider"),
                *(f"--junitxml={tmp_path / kind}.xml", *FOLDERS),
            ],
            cwd=tree,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for kind, statement in {"bare": "pass", "ours": "import jobtastic_ext"}.items()
    }
    try:
        for process in both.values():
            process.wait(600)
    finally:
        for process in both.values():
            process.kill()
            process.wait()
    bare, ours = (outcomes(tmp_path / f"{kind}.xml") for kind in both)
    assert len(bare) > 1000
    assert {name: (bare.get(name), ours.get(name)) for name in bare.keys() | ours.keys()} == {
        name: (outcome, outcome) for name, outcome in bare.items()
    }


def run(*command: object) -> None:
    subprocess.run([str(word) for word in command], check=True, cwd="/", timeout=600)


def outcomes(report: Path) -> dict[str, str]:
    return {
        f"{case.get('classname')}.{case.get('name')}": ",".join(sorted(part.tag for part in case))
        for case in ElementTree.parse(report).iter("testcase")
    }
