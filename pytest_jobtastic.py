"""The pytest plugin: the fixture `jobtastic`.  Imports nothing until a test asks for it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from jobtastic_ext.testing.harness import Harness

__all__ = ("jobtastic",)


@pytest.fixture
def jobtastic() -> Iterator[Harness]:
    """Try policies without a broker or a worker; everything is put back after the test.

    `policy(app, {...})`, `run()`, `tick(seconds)`, `runs(task)`, `assert_joined(a, b)` and
    `assert_runs(task, n)`; see *Testing your tasks* in the documentation.
    """
    from jobtastic_ext.testing.harness import Harness

    harness = Harness()
    try:
        yield harness
    finally:
        harness.close()
