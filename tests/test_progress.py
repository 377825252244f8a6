"""What becomes of the counts of a run, by a clock of the test's own."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest

from jobtastic_ext.estimates.estimator import History
from jobtastic_ext.progress.run_progress import (
    INTERVAL,
    MOST_SAMPLES,
    Progress,
    longest_silence,
)
from jobtastic_ext.progress.track import tracked


class Run(Progress):
    """A run whose clock stands still unless told, and which keeps the states it would write."""

    __slots__ = ("now", "states")

    def __init__(self, **options: Any) -> None:
        self.now = 100.0
        self.states: list[dict[str, Any]] = []
        super().__init__(object(), self.keep, name="t[1]", clock=lambda: self.now, **options)

    def keep(self, state: dict[str, Any]) -> bool:
        self.states.append(state)
        return True

    def report(self, completed: Any, total: Any, *rest: Any, after: float = 1.0) -> None:
        self.now += after
        self.update(completed, total, *rest)

    def percents(self) -> list[float]:
        return [state["progress_percent"] for state in self.states]

    def last(self) -> dict[str, Any]:
        return self.states[-1]


def learnt(*durations: float) -> History:
    history = History()
    for seconds in durations:
        history = history.record([], seconds)
    return history


def test_a_straight_line_without_history() -> None:
    run = Run()
    for n in range(1, 5):
        run.report(n, 4)
    assert run.percents() == [25, 50, 75, 100]
    times = [state["time_remaining"] for state in run.states]
    assert times == pytest.approx([3, 2, 1, 0], rel=0.1, abs=0.1)
    assert run.states[0]["completed"] == 1
    assert run.states[0]["total"] == 4
    assert run.states[0]["elapsed"] == 1.0


def test_the_start_shows_what_past_runs_took() -> None:
    run = Run()
    run.history = learnt(*[40.0] * 10)
    run.extras["key"] = "k"
    run.begin()
    assert run.last()["progress_percent"] == 0
    assert run.last()["time_remaining"] == pytest.approx(40, rel=0.1)
    assert run.last()["key"] == "k"
    assert "estimated" not in run.last()


def test_a_run_that_is_known_to_be_short_shows_itself_only_if_it_is_not() -> None:
    run = Run()
    run.history = learnt(*[INTERVAL / 5] * 10)
    watched: list[Progress] = []
    run.watch = watched.append
    run.begin()
    assert watched == [run]
    run.now += INTERVAL / 2
    run.tick()
    assert run.states == []
    run.now += INTERVAL
    run.tick()
    assert run.percents() == [0] or run.last()["estimated"]


def test_the_start_without_history_knows_nothing() -> None:
    run = Run()
    run.begin()
    assert run.last() == {"progress_percent": 0.0, "time_remaining": -1, "elapsed": 0.0}


# Odd counts


def test_a_percent_has_one_decimal_and_is_not_100_before_all_is_done() -> None:
    run = Run()
    for done, whole in ((11, 20), (1, 3), (9_999, 10_000), (10_000, 10_000)):
        run.report(done, whole)
    assert 100 * (11 / 20) != 55, "as a float it has sixteen digits"
    assert run.percents() == [55, 55, 99.9, 100]
    run = Run()
    run.report(1, 3)
    assert run.percents() == [33.3]


def test_a_total_of_nothing_is_done() -> None:
    run = Run()
    run.report(0, 0)
    assert run.last()["progress_percent"] == 100


@pytest.mark.parametrize("total", [None, float("nan"), float("inf"), -3])
def test_an_unknown_total_shows_the_count_alone(total: Any) -> None:
    run = Run()
    run.report(7, total)
    assert run.last()["progress_percent"] == 0
    assert run.last()["time_remaining"] == -1
    assert run.last()["completed"] == 7
    assert "total" not in run.last()


def test_counts_beyond_the_total_stay_at_100() -> None:
    run = Run()
    run.report(5, 4)
    run.report(9, 4)
    assert run.percents() == [100, 100]
    assert run.last()["completed"] == 9


def test_a_count_that_falls_keeps_the_percent_and_times_its_own_phase() -> None:
    run = Run()
    run.report(5, 10)
    run.report(1, 10)
    run.report(2, 10)
    assert run.percents() == [50, 50, 50]
    # One or two of ten in the second since it fell: not the three seconds that 50 % would say.
    assert 3.5 < run.last()["time_remaining"] < 9
    run.report(9, 10)
    assert run.percents()[-1] == 90
    assert run.samples == []  # only its duration is worth learning


def test_a_total_that_grows_means_that_less_was_done() -> None:
    run = Run()
    run.report(5, 10)
    run.report(6, 60)
    assert run.percents() == [50, 50]
    # A tenth in two seconds: not the two seconds that 50 % would say.
    assert run.last()["time_remaining"] == pytest.approx(18, rel=0.4)
    run.report(54, 60)
    assert run.percents()[-1] == 90
    fractions = [part for _, part in run.samples]
    assert fractions == sorted(fractions)
    assert run.samples[1] == (1.0, pytest.approx(5 / 60))


@pytest.mark.parametrize("number", [2.5, Decimal("2.5"), Fraction(5, 2)])
def test_numbers_of_any_kind(number: Any) -> None:
    run = Run()
    run.report(number, 10)
    assert run.last()["progress_percent"] == 25
    assert type(run.last()["completed"]) is float


@pytest.mark.parametrize("odd", ["many", None, float("nan"), float("inf"), [1], 1j])
def test_what_is_no_count_is_left_out_with_one_warning(
    odd: Any, caplog: pytest.LogCaptureFixture
) -> None:
    run = Run()
    with caplog.at_level(logging.WARNING, logger="jobtastic_ext"):
        run.report(odd, 10)
        run.report(odd, 10)
        run.report(1, 10)
    assert run.percents() == [10]
    assert len(caplog.records) == 1
    assert "t[1]: " in caplog.text


def test_a_message_is_shown_and_cut() -> None:
    run = Run()
    run.report(1, 10, 1, "x" * 9_999)
    assert run.last()["message"] == "x" * 500
    run.report(2, 10)
    assert run.last()["message"] == "x" * 500
    run.report(2, 10, 1, "other words, same count")
    assert run.last()["message"] == "other words, same count"


# When it writes


def test_at_most_four_writes_a_second_and_the_last_one() -> None:
    run = Run()
    for n in range(1, 1001):
        run.report(n, 1000, after=0.001)
    assert len(run.states) == 1 + 3 + 1  # at once, each quarter of the second, and the end
    assert run.percents()[-1] == 100


def test_every_so_many_counts() -> None:
    run = Run()
    for n in range(1, 26):
        run.report(n, 25, 10)
    assert [state["completed"] for state in run.states] == [10, 20, 25]


def test_the_end_is_written_once_however_often_it_is_told() -> None:
    run = Run()
    for n in range(10, 2_000):
        run.report(n, 10, after=0.0001)
    assert len(run.states) == 1


def test_what_was_held_back_is_written_by_the_ticker() -> None:
    run = Run()
    run.report(1, 10)
    run.report(5, 10, after=0.01)
    assert run.percents() == [10]
    run.tick()
    assert run.percents() == [10]
    run.now += INTERVAL
    run.tick()
    run.tick()
    assert run.percents() == [10, 50]


def test_a_plateau_renews_the_time_now_and_then() -> None:
    run = Run()
    run.report(5, 10)
    for _ in range(60 * 4):
        run.now += INTERVAL
        run.tick()
    assert 5 <= len(run.states) <= 13
    assert run.last()["time_remaining"] > run.states[0]["time_remaining"]


def test_a_run_that_never_reports_gets_its_percent_from_history() -> None:
    run = Run()
    run.history = learnt(*[20.0] * 10)
    run.begin()
    for _ in range(400):
        run.now += INTERVAL
        run.tick()
    percents = run.percents()
    assert percents == sorted(percents)
    assert 40 < run.states[10]["progress_percent"] < 60
    assert all(state["estimated"] for state in run.states[1:])
    assert percents[-1] < 100
    assert len(run.states) <= 60


def test_where_past_runs_told_nothing_is_guessed() -> None:
    run = Run()
    run.history, run.reports = learnt(*[20.0] * 10), True
    run.begin()
    run.now += 5
    run.tick()
    assert run.percents() == [0, 0]
    assert run.last()["time_remaining"] < run.states[0]["time_remaining"]
    run.report(1, 10)
    assert run.percents()[-1] == 10


def test_without_history_a_silent_run_is_written_once() -> None:
    run = Run()
    run.begin()
    for _ in range(400):
        run.now += INTERVAL
        run.tick()
    assert len(run.states) == 1


def test_nothing_is_written_after_the_end() -> None:
    run = Run()
    run.report(1, 10)
    run.close()
    run.report(10, 10)
    run.now += 9
    run.tick()
    assert list(tracked(run, [1, 2], None, None, None)) == [1, 2]
    assert len(run.states) == 1
    assert run.ended == 1.0


def test_a_final_result_ends_the_writing() -> None:
    run = Run()
    run.send = lambda state: False
    run.report(1, 10)
    assert run.closed


def test_an_error_of_our_own_is_logged_once_and_fails_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    run = Run()

    def broken(state: dict[str, Any]) -> bool:
        raise RuntimeError("no")

    run.send = broken
    run.report(1, 10)
    run.report(2, 10)
    assert caplog.text.count("Traceback") == 1


def test_a_soft_time_limit_in_the_midst_of_a_report_reaches_the_task() -> None:
    # Celery raises it in the main thread, wherever that is, and it is an `Exception`.
    class SoftTimeLimitExceeded(Exception): ...

    run = Run(urgent=(SoftTimeLimitExceeded,))

    def interrupted(state: dict[str, Any]) -> bool:
        raise SoftTimeLimitExceeded

    run.send = interrupted
    with pytest.raises(SoftTimeLimitExceeded):
        run.report(1, 10)
    run.send = run.keep
    run.report(2, 10)
    assert run.percents() == [20]


def test_samples_are_thinned() -> None:
    run = Run()
    for n in range(1, 5_000):
        run.report(n, 5_000)
    assert len(run.samples) <= MOST_SAMPLES
    assert run.samples[0] == (0, 0)
    assert run.samples[-1] == (4999, 0.9998)


# Loops


def walk(run: Run, iterable: Any, total: Any = None, seconds: float = 1.0) -> Iterator[Any]:
    for item in tracked(run, iterable, total, None, None):
        yield item
        run.now += seconds


def test_a_loop_over_a_list() -> None:
    run = Run()
    assert list(walk(run, "abcd")) == list("abcd")
    assert run.percents() == [0, 25, 50, 75, 100]
    assert run.last()["total"] == 4


def test_a_loop_over_a_generator() -> None:
    run = Run()
    list(walk(run, (x for x in range(3))))
    assert run.percents() == [0, 0, 0, 0, 100]
    assert [state["completed"] for state in run.states] == [0, 1, 2, 3, 3]


def test_a_loop_over_a_generator_of_known_size() -> None:
    run = Run()
    list(walk(run, (x for x in range(4)), total=4))
    assert run.percents() == [0, 25, 50, 75, 100]


@pytest.mark.parametrize("total", [2, 40, "x", float("nan")])
def test_a_loop_whose_total_is_wrong_ends_at_100(total: Any) -> None:
    run = Run()
    assert len(list(walk(run, range(4), total=total))) == 4
    assert run.percents() == sorted(run.percents())
    assert run.percents()[-1] == 100
    assert (run.last()["completed"], run.last()["total"]) == (4, 4)


def test_an_empty_loop_is_done() -> None:
    run = Run()
    assert list(walk(run, [])) == []
    assert run.percents()[-1] == 100


def test_a_loop_that_is_left_shows_what_was_done() -> None:
    run = Run()
    for item in tracked(run, range(10), None, None, None):
        run.now += 0.01
        if item == 6:
            break
    assert run.last()["completed"] == 6
    assert run.percents()[-1] == 60
    assert not run.frames


def test_an_error_in_a_loop_passes_through() -> None:
    run = Run()

    def items() -> Iterator[int]:
        yield 1
        raise KeyError("x")

    with pytest.raises(KeyError):
        list(tracked(run, items(), 4, None, None))
    assert run.percents()[-1] == 25


def test_loops_within_loops() -> None:
    run = Run()
    for _ in tracked(run, range(2), None, None, None):
        for _ in tracked(run, range(4), None, None, None):
            run.now += 1
    assert run.percents()[-1] == 100
    assert run.percents() == sorted(run.percents())
    assert {12.5, 25, 37.5, 62.5, 75, 87.5} <= set(run.percents())
    assert not run.frames


def test_counts_within_a_loop() -> None:
    run = Run()
    for _ in tracked(run, range(2), None, None, None):
        for n in range(4):
            run.report(n + 1, 4)
    assert run.percents() == sorted(run.percents())
    assert {12.5, 25, 37.5, 62.5, 75, 87.5, 100} <= set(run.percents())
    assert run.samples
    assert [part for _, part in run.samples] == sorted(part for _, part in run.samples)


def test_the_ends_of_inner_counts_keep_to_the_time_between_writes() -> None:
    run = Run()
    for _ in tracked(run, range(1_000), None, None, None):
        run.report(1, 1, after=0.001)
    assert len(run.states) <= 7


def test_two_loops_one_after_the_other_never_fall() -> None:
    run = Run()
    list(walk(run, "ab"))
    list(walk(run, "abcd"))
    assert run.percents() == sorted(run.percents())
    assert run.samples == []


def test_loops_side_by_side() -> None:
    run = Run()
    first = tracked(run, range(5), None, None, None)
    second = tracked(run, range(5), None, None, None)
    for _ in zip(first, second, strict=False):
        run.now += 1
    second.close()
    assert run.percents() == sorted(run.percents())
    assert not run.frames


def test_every_so_many_items() -> None:
    run = Run()
    for _ in tracked(run, range(25), None, 10, None):
        run.now += 1
    assert [state["completed"] for state in run.states] == [0, 10, 20, 25]


def test_the_length_is_asked_once_and_a_strange_one_is_no_length() -> None:
    class Strange:
        def __iter__(self) -> Iterator[int]:
            return iter([1, 2])

        def __len__(self) -> int:
            raise TypeError("no")

    run = Run()
    assert list(walk(run, Strange())) == [1, 2]
    assert run.percents()[-1] == 100


@pytest.mark.parametrize("elapsed", [1, 90, 250, 3_000])
def test_who_falls_silent_says_something_in_time(elapsed: float) -> None:
    """By that a page's server tells a run that is cut off from its store from a dead one."""
    run = Run()
    run.report(1, 9, after=elapsed)
    ends = run.now + longest_silence(elapsed)
    while len(run.states) == 1:
        run.now += INTERVAL
        run.tick()
    assert run.now <= ends + INTERVAL
