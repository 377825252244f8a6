"""``make demo`` holds what it says, and its workers say why they do not start."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from jobtastic_ext.testing.worker import Worker
from tests.workers import ROOT


def test_the_demo_says_what_it_is_without_running() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "jobtastic_ext.demo", "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert done.returncode == 0, done.stderr
    assert "JOBTASTIC_DEMO_BROKER" in done.stdout
    assert "identical calls" not in done.stdout


def test_the_demo_holds_and_ends_by_itself() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "jobtastic_ext.demo"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=150,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "All of it held" in done.stdout


def test_a_worker_that_cannot_start_says_why(tmp_path: Path) -> None:
    why = r"ended by itself \(exit \d\); its log ends: .*no_such_app"
    with (
        Worker(tmp_path / "log", "no_such_app", folder=tmp_path) as worker,
        pytest.raises(RuntimeError, match=why),
    ):
        worker.wait_until_ready(60)
