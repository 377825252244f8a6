"""When a run counts as silent: by the store's clock, and by what it goes on to report."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from jobtastic_ext.web import silent
from jobtastic_ext.web.silent import MOST, Reports, patience
from jobtastic_ext.web.stored import Stored


class Watched:
    """A run as a page sees it, on a clock that stands still."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1_000.0
        self.reports = Reports()
        monkeypatch.setattr(silent, "time", SimpleNamespace(monotonic=lambda: self.now))

    def is_late(
        self, elapsed: float | None, running: float | None = None, *, renewed: bool = True
    ) -> bool:
        stored = Stored(status="PROGRESS", elapsed=elapsed, renewed=renewed)
        return self.reports.are_late("an-id", stored, running)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Watched:
    return Watched(monkeypatch)


@pytest.mark.parametrize(("elapsed", "allowed"), [(3.0, 8.0), (380.0, 23.0), (50_000.0, 33.0)])
def test_the_longer_a_run_takes_the_longer_it_may_be_silent(
    run: Watched, elapsed: float, allowed: float
) -> None:
    assert not run.is_late(elapsed, elapsed + allowed - 0.1)
    assert run.is_late(elapsed, elapsed + allowed + 0.1)


def test_who_sees_it_for_the_first_time_knows_it_at_once_and_goes_on_to(run: Watched) -> None:
    assert run.is_late(3.0, 60.0)
    assert run.is_late(3.0, 60.5)


def test_without_a_claim_it_is_known_by_the_report_that_stays_the_last(run: Watched) -> None:
    for elapsed in (3.0, 4.0):
        assert not run.is_late(elapsed)
        run.now += 7.9
        assert not run.is_late(elapsed)
    run.now += 0.2
    assert run.is_late(4.0)
    assert not run.is_late(20.0)


def test_a_report_ends_it(run: Watched) -> None:
    assert run.is_late(3.0, 60.0)
    assert not run.is_late(60.4, 60.5)
    assert run.is_late(60.4, 90.0)


def test_who_goes_on_to_report_is_not_silent_whatever_the_clocks_say(run: Watched) -> None:
    """The worker slept for an hour, or the store's clock was set."""
    off = 3_600.0
    assert run.is_late(3.0, 3.0 + off)
    for second in range(4, 40):
        run.now += 1
        elapsed = second - second % 5  # it reports every five seconds
        assert not run.is_late(float(elapsed), second + off) or second < 5
    run.now += patience(Stored(status="PROGRESS", elapsed=35.0)) + 1
    assert run.is_late(35.0, 50 + off)


@pytest.mark.parametrize(("elapsed", "renewed"), [(None, True), (3.0, False)])
def test_who_need_not_report_is_never_silent(
    run: Watched, elapsed: float | None, renewed: bool
) -> None:
    assert not run.is_late(elapsed, 1e6, renewed=renewed)


def test_what_is_kept_in_mind_is_bounded(run: Watched) -> None:
    stored = Stored(status="PROGRESS", elapsed=1.0, renewed=True)
    for number in range(MOST + 50):
        assert run.reports.are_late(str(number), stored, 100.0)
    assert len(run.reports._late) == MOST
    run.reports.forget(str(MOST + 49))
    run.reports.forget("never seen")
    assert len(run.reports._late) == MOST - 1
