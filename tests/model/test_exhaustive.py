"""Every interleaving of a few callers and two workers, with faults.

``python -m tests.model --faults 2`` explores more; docs/reliability.md says what is modelled.  The
scenarios with many worlds are explored to their end in CI alone (and by ``make model FAULTS=1``).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from tests.thorough import CI

from .explore import Explorer
from .scenarios import small, timed
from .world import Scenario

SCENARIOS, TIMED = dict(small()), dict(timed())

#: So many worlds, those that are reached soonest: of the former where it is not CI, of the latter.
LIMIT, SOON = (None, 1_000) if CI else (100, 100)


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    logger = logging.getLogger("jobtastic_ext")
    logger.disabled = True
    yield
    logger.disabled = False


@pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=SCENARIOS)
def test_the_invariants_hold_in_every_world(scenario: Scenario) -> None:
    report = Explorer(scenario).explore(worlds=LIMIT)
    assert report.complete or report.worlds == LIMIT
    assert report.worlds > 10


@pytest.mark.parametrize("scenario", TIMED.values(), ids=TIMED)
def test_they_hold_where_time_passes(scenario: Scenario) -> None:
    report = Explorer(scenario).explore(worlds=SOON)
    assert report.complete or report.worlds == SOON
