"""What `run.py` compares: contests, each with contestants that are timed in turn, and the rows made of their timings.

A row sets one of forkright's timings against its peers'. The best peer is the one whose median is the least in the
same run, so luck is on the peer's side.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import figures

FUTURES = ("futures, fork", "futures, forkserver", "futures, spawn")
POOL = ("Pool, fork", "Pool, forkserver")
OURS = "fr.ProcessPoolExecutor"

# What the timings of one visit come to: the figure of that round, or one for each pair of timings.
Reduce = Callable[[Sequence[float]], Sequence[float]]


def middle(timings: Sequence[float]) -> Sequence[float]:
    return [figures.median(timings)]


def slowest_hundredth(timings: Sequence[float]) -> Sequence[float]:
    return [figures.percentile(timings, 0.99)]


def each(timings: Sequence[float]) -> Sequence[float]:
    return timings


def least(timings: Sequence[float]) -> Sequence[float]:
    """For small differences of two times: whatever disturbs an interpreter's start only adds to it."""
    return [min(timings)]


@dataclass(frozen=True)
class Series:
    """The timings of one contestant under one name."""

    contestant: str
    timing: str

    def __str__(self) -> str:
        return self.contestant


@dataclass(frozen=True)
class Submitters(Series):
    """A series of the contest in which the threads differ and the contestant does not."""

    def __str__(self) -> str:
        return f"{self.contestant} from {self.timing}"


@dataclass(frozen=True)
class Target:
    """What we promised ourselves; of the ratio, or of forkright's own time in seconds."""

    of: Literal["ratio", "time"]
    rule: Literal["at least", "at most"]
    bound: float

    def met(self, value: float) -> bool:
        return value >= self.bound if self.rule == "at least" else value <= self.bound

    def __str__(self) -> str:
        bound = f"{self.bound:g}x" if self.of == "ratio" else figures.duration(self.bound)
        return f"{'≥' if self.rule == 'at least' else '≤'} {bound}"


@dataclass(frozen=True)
class Row:
    """One line of the table.

    The ratio is the peer's time over ours; if `cost`, ours over the peer's, for which less is better.
    """

    what: str
    ours: Series
    peers: tuple[Series, ...]
    target: Target | None = None
    reduce: Reduce = middle
    cost: bool = False
    # The name of a timing of the same visit that is taken off, as that of a bare interpreter is.
    without: str | None = None

    @property
    def series(self) -> tuple[Series, ...]:
        return self.ours, *self.peers


@dataclass(frozen=True)
class Contest:
    """Contestants timed under the same conditions, one after another in each round.

    `measure` is the function in `visit.py`; "interpreter" times a whole interpreter that runs one statement,
    and a bare one in turn with it.
    `repeats` are timings within a visit. Of each pair of numbers, the second is for --quick.
    """

    name: str
    measure: str
    contestants: tuple[str, ...]
    rows: tuple[Row, ...]
    size: tuple[int, int] = (1, 1)
    rounds: tuple[int, int] = (9, 2)
    repeats: tuple[int, int] = (1, 1)


def against(timing: str, peers: tuple[str, ...]) -> tuple[Series, ...]:
    return tuple(Series(peer, timing) for peer in peers)


def latency_rows(where: str, ours: str, *rivals: tuple[str, ...]) -> tuple[Row, ...]:
    return tuple(
        Row(
            f"one task on {where}, submit to result, {name}",
            Series(ours, "task"),
            against("task", peers),
            reduce=reduce,
        )
        for peers in rivals
        for name, reduce in (("p50", middle), ("p99", slowest_hundredth))
    )


def submitters_row(contestant: str, whose: str, target: Target | None) -> Row:
    return Row(
        f"{whose}: a task submitted from 4 threads at once, against from 1",
        Submitters(contestant, "four"),
        (Submitters(contestant, "one"),),
        target,
        reduce=each,
        cost=True,
    )


def import_row(ours: str, theirs: tuple[str, ...]) -> Row:
    return Row(
        f"`{ours}`, over a bare interpreter",
        Series(ours, "whole"),
        against("whole", theirs),
        Target("time", "at most", 0.015),
        reduce=least,
        without="bare",
    )


IMPORT = "import forkright"
IMPORTS = ("from concurrent.futures import ProcessPoolExecutor", "from multiprocessing.pool import Pool")

CONTESTS = (
    Contest(
        "processes",
        "stream",
        (OURS, *FUTURES, *POOL, "loky"),
        (
            Row(
                "a task of many, 2 processes",
                Series(OURS, "task"),
                against("task", FUTURES),
                Target("ratio", "at least", 15),
            ),
            Row(
                "a task of many, 2 processes",
                Series(OURS, "task"),
                against("task", POOL),
                Target("ratio", "at least", 4),
            ),
            Row("a task of many, 2 processes", Series(OURS, "task"), against("task", ("loky",))),
        ),
        size=(10_000, 500),
    ),
    Contest(
        "submitters",
        "submitters",
        (OURS,),
        (submitters_row(OURS, "forkright", Target("ratio", "at most", 1.2)),),
        size=(10_000, 500),
        rounds=(5, 2),
        repeats=(12, 2),
    ),
    Contest(
        "submitters-peers",
        "submitters",
        ("futures, fork", "Pool, fork"),
        (
            submitters_row("futures, fork", "concurrent.futures", None),
            submitters_row("Pool, fork", "multiprocessing.Pool", None),
        ),
        size=(10_000, 500),
        rounds=(3, 2),
        repeats=(2, 1),
    ),
    Contest(
        "threads",
        "stream",
        ("fr.ThreadPoolExecutor", "futures, threads"),
        (
            Row(
                "a task of many, 4 threads",
                Series("fr.ThreadPoolExecutor", "task"),
                against("task", ("futures, threads",)),
            ),
        ),
        size=(10_000, 500),
        repeats=(3, 1),
    ),
    Contest(
        "latency-processes",
        "latency",
        (OURS, *FUTURES, *POOL, "loky"),
        latency_rows("2 processes", OURS, FUTURES, POOL, ("loky",)),
        size=(500, 200),
        rounds=(7, 2),
    ),
    Contest(
        "latency-threads",
        "latency",
        ("fr.ThreadPoolExecutor", "futures, threads"),
        latency_rows("4 threads", "fr.ThreadPoolExecutor", ("futures, threads",)),
        size=(500, 200),
        rounds=(7, 2),
    ),
    Contest(
        "map",
        "map",
        (
            "fr.map",
            "Pool.map, fork",
            "Pool.map, forkserver",
            "futures map by 100, fork",
            "futures map by 100, forkserver",
            "futures map by 1000, fork",
            "futures map by 1000, forkserver",
        ),
        tuple(
            Row("an item of a map of many, 2 processes", Series("fr.map", "item"), against("item", peers))
            for peers in (
                ("Pool.map, fork", "Pool.map, forkserver"),
                ("futures map by 100, fork", "futures map by 100, forkserver"),
                ("futures map by 1000, fork", "futures map by 1000, forkserver"),
            )
        ),
        size=(100_000, 5_000),
        repeats=(3, 1),
    ),
    Contest(
        "import",
        "interpreter",
        (IMPORT, *IMPORTS),
        (import_row(IMPORT, IMPORTS[:1]), import_row(IMPORT, IMPORTS[1:])),
        rounds=(21, 5),
        repeats=(5, 5),
    ),
    Contest(
        "cold",
        "cold",
        (OURS, *FUTURES, *POOL, "loky"),
        tuple(
            Row("the first result of a process, import included", Series(OURS, "first"), against("first", peers))
            for peers in (FUTURES, POOL, ("loky",))
        ),
    ),
    Contest(
        "waits",
        "waits",
        ("fr.map, auto", "ThreadPoolExecutor()", "ThreadPoolExecutor(20)"),
        tuple(
            Row("20 waits of 50 ms", Series("fr.map, auto", "all"), against("all", (peer,)))
            for peer in ("ThreadPoolExecutor()", "ThreadPoolExecutor(20)")
        ),
        size=(20, 20),
    ),
    Contest(
        "tiny",
        "tiny",
        ("fr.map, auto", "ThreadPoolExecutor()"),
        tuple(
            Row(
                f"a map of trivial calls, {count} of them, over `list(map())`",
                Series("fr.map, auto", f"{count}"),
                against(f"{count}", ("ThreadPoolExecutor()",)),
                Target("time", "at most", 50e-6),
                without=f"{count} in a loop",
            )
            for count in (1, 10, 100, 1000)
        ),
        repeats=(200, 50),
    ),
)
