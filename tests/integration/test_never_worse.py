"""Never worse than bare Celery: the same calls on a bare app and with a policy, side by side.

Celery's own patience (its retry policy, its pool of producers, its timeouts) guards what is
asserted here; `benchmarks/bench_never_worse.py` has the scenarios, and larger numbers.
"""

from __future__ import annotations

import pytest

from benchmarks.bench_never_worse import SCENARIOS, compare


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_no_more_calls_fail_and_no_more_connections_are_open(scenario: str) -> None:
    threads = SCENARIOS[scenario][1]
    seen = compare(scenario, min(threads, 40), 10, ("bare", "jobtastic"))
    bare, ours = seen["bare"], seen["jobtastic"]
    assert ours.failed <= bare.failed, seen
    assert ours.connections <= 1.25 * bare.connections + 4, seen


def test_a_call_with_a_fallback_waits_for_a_connection_as_with_celery() -> None:
    # With a deadline that a busy machine keeps, too.
    timeouts = {"jobtastic_publish_timeout": 30, "jobtastic_store_timeout": 10}
    seen = compare("80 threads at once", 40, 5, ("bare", "fallback"), **timeouts)
    assert seen["fallback"].failed == 0, seen
    assert seen["fallback"].connections <= 1.25 * seen["bare"].connections + 4, seen
