"""What a comparison is made of: contests, the rows of the table and the curves that are drawn, and what was promised.

A row sets one of forkright's figures against its peers'. The best peer is the one whose median is the least in the
same run, so luck is on the peer's side.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import figures

# What the figures of one visit come to: that of the round, or one for each pair.
Reduce = Callable[[Sequence[float]], Sequence[float]]


def middle(found: Sequence[float]) -> Sequence[float]:
    return [figures.median(found)]


def slowest_hundredth(found: Sequence[float]) -> Sequence[float]:
    return [figures.percentile(found, 0.99)]


def each(found: Sequence[float]) -> Sequence[float]:
    return found


def least(found: Sequence[float]) -> Sequence[float]:
    """For small differences of two times: whatever disturbs an interpreter's start only adds to it."""
    return [min(found)]


@dataclass(frozen=True)
class Series:
    """The figures of one contestant under one name."""

    contestant: str
    figure: str
    # How the table calls it, where the contestant's name does not tell.
    label: str | None = None

    def __str__(self) -> str:
        return self.label or self.contestant


@dataclass(frozen=True)
class Target:
    """What we promised ourselves; of the ratio, or of forkright's own figure."""

    of: Literal["ratio", "figure"]
    rule: Literal["at least", "at most"]
    bound: float

    def met(self, value: float) -> bool:
        return value >= self.bound if self.rule == "at least" else value <= self.bound


@dataclass(frozen=True)
class Row:
    """One line of the table.

    The ratio is the peer's figure over ours; if `cost`, ours over the peer's, for which less is better.
    """

    what: str
    ours: Series
    peers: tuple[Series, ...] = ()
    target: Target | None = None
    reduce: Reduce = middle
    cost: bool = False
    # The name of a figure of the same visit that is taken off, as that of a bare interpreter is.
    without: str | None = None
    unit: figures.Unit = "s"

    @property
    def series(self) -> tuple[Series, ...]:
        return self.ours, *self.peers


@dataclass(frozen=True)
class Curve:
    """How the cost of a task grows with something; each contestant's figures are named after its values."""

    title: str
    along: str
    # Of the logarithms on its axis.
    base: int = 10


@dataclass(frozen=True)
class Contest:
    """Contestants that are measured under the same conditions, one after another in each round.

    `measure` is the function in `visit.py`; "interpreter" times a whole interpreter that runs one statement,
    and a bare one in turn with it.
    `size` is what the measure takes, mostly a number of `tasks`. `repeats` are timings within a visit. Of each pair of
    numbers, the second is for --quick.
    """

    name: str
    measure: str
    contestants: tuple[str, ...]
    rows: tuple[Row, ...] = ()
    curve: Curve | None = None
    size: tuple[int, int] = (1, 1)
    rounds: tuple[int, int] = (9, 2)
    repeats: tuple[int, int] = (1, 1)
    # What the size counts: peers that take milliseconds for a task get fewer of them.
    of: Literal["tasks", "bytes", "seconds", "workers"] = "tasks"
