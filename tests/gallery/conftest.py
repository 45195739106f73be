"""What holds for tests of programs that are processes of their own: they must leave nothing, this process has nothing."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="session", autouse=True)
def no_leftovers() -> None:
    """Nothing is looked for here: the test of each program looks at its whole family."""
