"""The checker finds known bugs, planted one at a time: else it would prove nothing."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.thorough import CI

from . import mutations
from .explore import Explorer, Found
from .mutations import MUTATIONS, planted
from .scenarios import small

EXPLORED = {scenario for _, scenario in small()}

#: Found after seconds: in CI alone.
LONG = (
    mutations.a_retry_that_others_wait_for_is_taken_for_served,
    mutations.what_waits_is_woken_by_nobody,
    mutations.a_retry_that_is_left_out_forgets_who_sent_it,
)

PLANTED = [each for each in MUTATIONS if CI or each not in LONG]

#: A mutation for each of their scenarios that `test_exhaustive` does not explore.
OWN = {each: mutation for mutation, each in MUTATIONS.items() if each not in EXPLORED}


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    logger = logging.getLogger("jobtastic_ext")
    logger.disabled = True
    yield
    logger.disabled = False


@pytest.mark.parametrize("mutation", PLANTED, ids=lambda mutation: mutation.__name__)
def test_a_planted_bug_is_found(mutation: Callable[[], list[Any]]) -> None:
    with planted(mutation), pytest.raises(Found) as found:
        Explorer(MUTATIONS[mutation]).explore()
    assert found.value.trace


@pytest.mark.parametrize("mutation", OWN.values(), ids=lambda mutation: mutation.__name__)
def test_without_the_bug_nothing_is_found(mutation: Callable[[], list[Any]]) -> None:
    Explorer(MUTATIONS[mutation]).explore(worlds=2_000 if CI else 500)
