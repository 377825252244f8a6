"""A little chaos; ``make chaos SECONDS=120 SEED=1`` does more of it, on every store."""

from __future__ import annotations

import pytest

from jobtastic_ext.counts.words import DECISIONS
from tests.thorough import CI

from .__main__ import Chaos, show

SECONDS = 30 if CI else 15


def test_a_little_chaos(capsys: pytest.CaptureFixture[str]) -> None:
    report = Chaos("alone", SECONDS, "1").run()
    show("alone", "1", report)
    assert report.holds(), capsys.readouterr().out
    assert report.harms


def test_counts_are_exact_while_children_die_and_the_store_is_away(
    capsys: pytest.CaptureFixture[str],
) -> None:
    # What a flush takes is lost, and a main process takes its last second with it.
    report = Chaos("alone", 20, "2", spares=("flush", "restart", "kill a worker")).run()
    show("alone", "2", report)
    told = f"{report.counted} of {report.made} calls, {report.entered} runs"
    assert report.holds(), capsys.readouterr().out
    assert report.refused == 0, told
    assert sum(report.counted[word] for word in DECISIONS) == report.made, told
    killed = report.harms.get("kill a child", 0)
    # A child may be killed after its run was counted, and before its body has noted it.
    assert 0 <= report.counted["ran"] - report.entered <= killed, told
    assert 0 <= report.counted["failed"] <= killed, told
