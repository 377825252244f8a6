"""Every interleaving of a few callers and two workers, with faults.

``python -m tests.model --faults 2`` explores more; docs/reliability.md says what is modelled.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from .explore import Explorer
from .scenarios import small
from .world import Scenario

SCENARIOS = dict(small())


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    logger = logging.getLogger("jobtastic_ext")
    logger.disabled = True
    yield
    logger.disabled = False


@pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=SCENARIOS)
def test_the_invariants_hold_in_every_world(scenario: Scenario) -> None:
    report = Explorer(scenario).explore()
    assert report.complete
    assert report.worlds > 10
