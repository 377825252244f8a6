"""Random walks with more callers, workers and faults than can be explored one by one.

The moves of a failing walk are printed.
"""

from __future__ import annotations

import logging

from hypothesis import HealthCheck, Phase, note, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from msgspec.structs import replace

from .explore import Explorer
from .scenarios import CASTS, PLAIN, REFRESH, pinned
from .world import Budget, World

BUDGET = Budget(
    **dict.fromkeys(Budget.__struct_fields__, 2),
)

CALLERS = (PLAIN, PLAIN, PLAIN, pinned(1), REFRESH, PLAIN)


class Walk(RuleBasedStateMachine):
    """Six callers and three workers; every fault may happen twice."""

    world: World

    @initialize(
        cast=st.sampled_from(sorted(CASTS)),
        callers=st.integers(2, len(CALLERS)),
        sees=st.booleans(),
    )
    def begin(self, cast: str, callers: int, sees: bool) -> None:
        logging.getLogger("jobtastic_ext").disabled = True
        self.scenario = replace(
            CASTS[cast], callers=CALLERS[:callers], workers=3, budget=BUDGET, sees=sees
        )
        self.explorer = Explorer(self.scenario)
        self.world = self.explorer.model.start()

    def teardown(self) -> None:
        logging.getLogger("jobtastic_ext").disabled = False

    @rule(choice=st.integers(0, 1_000_000))
    def move(self, choice: int) -> None:
        moves = list(self.explorer.model.moves(self.world))
        if moves:
            line, self.world = moves[choice % len(moves)]
            note(line)

    @invariant()
    def everybody_is_served(self) -> None:
        self.explorer.check(self.world)


TestWalk = Walk.TestCase
TestWalk.settings = settings(
    max_examples=30,
    stateful_step_count=40,
    derandomize=True,  # the same walks in every test run
    phases=[Phase.generate],  # to shrink takes minutes, and the moves are printed as they are
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
