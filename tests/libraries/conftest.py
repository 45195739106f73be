"""What holds for tests with libraries that start threads of their own."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="session", autouse=True)
def no_leftovers() -> None:
    """Nothing is looked for: the threads of Polars and Arrow, once started, stay until the interpreter ends."""
