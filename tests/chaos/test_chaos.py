"""Half a minute of chaos; ``make chaos SECONDS=120 SEED=1`` does more of it, on every store."""

from __future__ import annotations

import pytest

from .__main__ import Chaos, show


def test_half_a_minute_of_chaos(capsys: pytest.CaptureFixture[str]) -> None:
    report = Chaos("alone", 30, "1").run()
    show("alone", "1", report)
    assert report.holds(), capsys.readouterr().out
    assert report.harms
