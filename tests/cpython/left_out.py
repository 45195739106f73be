"""The tests of the suite that forkright does not pass, and why."""

from __future__ import annotations

from typing import NamedTuple


class LeftOut(NamedTuple):
    kinds: str
    family: str
    tests: str
    reason: str


FAILS = (
)
NOT_RUN = (
    LeftOut("threads", "executor", "test_executor_map_current_future_cancel", "hang"),
    LeftOut("threads", "shutdown", "test_threads_terminate", "hang"),
)


def names(table: tuple[LeftOut, ...], kind: str, family: str) -> frozenset[str]:
    """The tests of a family that a table names for a kind of worker."""
    rows = (row for row in table if kind in row.kinds.split() and row.family == family)
    return frozenset(name for row in rows for name in row.tests.split())
