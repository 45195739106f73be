"""What `run.py` compares. README.md says what each contest stands for; what was promised is in the rows."""

from __future__ import annotations

from collections.abc import Iterable

from contest import Contest, Curve, Row, Series, Target, each, least, middle, slowest_hundredth

OURS = "fr.ProcessPoolExecutor"
THREADS = "fr.ThreadPoolExecutor"
FUTURES = ("futures, fork", "futures, forkserver", "futures, spawn")
POOL = ("Pool, fork", "Pool, forkserver")
GUESTS = ("loky", "joblib", "mpire", "pebble", "Ray", "Dask")
EVERYONE = (OURS, *FUTURES, *POOL, *GUESTS)
PINGPONG = "futex ping-pong"


def named(figure: str, *contestants: str) -> tuple[Series, ...]:
    """That figure of each."""
    return tuple(Series(contestant, figure) for contestant in contestants)


def against(
    what: str, ours: Series, promised: dict[tuple[str, ...], Target], *others: Iterable[str], **how: object
) -> tuple[Row, ...]:
    """A row for each group of peers: those of whom something was promised, and others."""
    groups = {**promised, **dict.fromkeys(map(tuple, others))}
    return tuple(
        Row(what, ours, named(ours.figure, *peers), target, **how)  # type: ignore[arg-type]
        for peers, target in groups.items()
    )


def at_least(ratio: float) -> Target:
    return Target("ratio", "at least", ratio)


def at_most(ratio: float) -> Target:
    return Target("ratio", "at most", ratio)


def within(figure: float) -> Target:
    return Target("figure", "at most", figure)


def latency_rows(where: str, ours: str, *rivals: tuple[str, ...]) -> tuple[Row, ...]:
    return tuple(
        row
        for name, reduce in (("p50", middle), ("p99", slowest_hundredth))
        for row in against(
            f"one task on {where}, submit to result, {name}", Series(ours, "task"), {}, *rivals, reduce=reduce
        )
    )


def submitters_row(contestant: str, whose: str, target: Target | None) -> Row:
    return Row(
        f"{whose}: a task submitted from 4 threads at once, against from 1",
        Series(contestant, "four", f"{contestant} from four"),
        (Series(contestant, "one", f"{contestant} from one"),),
        target,
        reduce=each,
        cost=True,
    )


def import_row(ours: str, theirs: str) -> Row:
    return Row(
        f"`{ours}`, over a bare interpreter",
        Series(ours, "whole"),
        named("whole", theirs),
        within(0.015),
        reduce=least,
        without="bare",
    )


def array_rows(figure: str, what: str, ways: int) -> Iterable[Row]:
    """Against one memcpy, from recycled memory and on first use; and against those who copy through pipes.

    What goes both ways may cost twice as much as what goes one way.
    """
    memcpy = named("copy", "memcpy")
    yield Row(f"{what}, recycled memory", Series(OURS, figure), memcpy, at_most(1.5 * ways), cost=True)
    yield Row(f"{what}, first use", Series(OURS, f"{figure}, first"), memcpy, at_most(6 * ways), cost=True)
    yield from against(what, Series(OURS, figure), {FUTURES: at_least(20)}, POOL, GUESTS)


def whole(contestant: str, later: str, earlier: str, bound: float, what: str, **how: object) -> Row:
    """The last tenth of a million tasks against the first."""
    return Row(
        what,
        Series(contestant, later, f"{contestant}, last tenth"),
        (Series(contestant, earlier, f"{contestant}, first tenth"),),
        at_most(bound),
        cost=True,
        **how,  # type: ignore[arg-type]
    )


IMPORT = "import forkright"
IMPORTS = ("from concurrent.futures import ProcessPoolExecutor", "from multiprocessing.pool import Pool")
LOOP = "list(map())"
MAPS_OF_POOL = tuple(
    f"Pool.map{size}, {method}"
    for method, sizes in (("fork", (" by 1000", " by 5000", "", " by 50000")), ("forkserver", ("", " by 5000")))
    for size in sizes
)
MAPS_OF_FUTURES = tuple(
    f"futures map by {size}, {method}" for method in ("fork", "forkserver") for size in (1000, 5000)
)
MAPS_OF_GUESTS = ("loky map by 5000", "joblib map", "mpire map", "pebble map by 5000", "Ray map", "Dask map")
STARTS = ("Process, fork", "Process, forkserver", "Process, spawn")

CONTESTS = (
    Contest(
        "processes",
        "stream",
        (*EVERYONE, "pickling"),
        (
            *against(
                "a task of many, 2 processes",
                Series(OURS, "task"),
                {FUTURES: at_least(50), POOL: at_least(12)},
                *((guest,) for guest in GUESTS),
            ),
            Row(
                "a task of many, 2 processes, against only pickling it",
                Series(OURS, "task"),
                named("task", "pickling"),
                at_most(1.5),
                cost=True,
            ),
        ),
        size=(10_000, 500),
        rounds=(7, 2),
    ),
    Contest(
        "submitters",
        "submitters",
        (OURS,),
        (submitters_row(OURS, "forkright", at_most(1.2)),),
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
        (THREADS, "futures, threads"),
        against("a task of many, 4 threads", Series(THREADS, "task"), {("futures, threads",): at_least(12)}),
        size=(10_000, 500),
        repeats=(3, 1),
    ),
    Contest(
        "latency-processes",
        "latency",
        (*EVERYONE, PINGPONG),
        (
            *(
                Row(
                    f"one task on 2 processes, submit to result, {name}, against bare wake-ups",
                    Series(OURS, "task"),
                    named("task", PINGPONG),
                    at_most(bound),
                    reduce=reduce,
                    cost=True,
                )
                for name, reduce, bound in (("p50", middle, 1.3), ("p99", slowest_hundredth, 1.5))
            ),
            *latency_rows("2 processes", OURS, FUTURES, POOL, GUESTS),
        ),
        size=(1000, 200),
        rounds=(7, 2),
    ),
    Contest(
        "latency-threads",
        "latency",
        (THREADS, "futures, threads"),
        latency_rows("4 threads", THREADS, ("futures, threads",)),
        size=(1000, 200),
        rounds=(7, 2),
    ),
    Contest(
        "map",
        "map",
        ("fr.map, auto", "fr.map", LOOP, *MAPS_OF_POOL, *MAPS_OF_FUTURES, *MAPS_OF_GUESTS),
        (
            *against("an item of a map of many, auto", Series("fr.map, auto", "item"), {MAPS_OF_POOL: at_least(3)}),
            Row(
                "an item of a map of many, auto, against only calling it",
                Series("fr.map, auto", "item"),
                named("item", LOOP),
                cost=True,
            ),
            *against(
                "an item of a map of many, 2 processes",
                Series("fr.map", "item"),
                {MAPS_OF_POOL: at_least(3)},
                MAPS_OF_FUTURES,
                *((guest,) for guest in MAPS_OF_GUESTS),
            ),
        ),
        size=(100_000, 5_000),
        rounds=(7, 2),
        repeats=(3, 1),
    ),
    Contest(
        "waits",
        "waits",
        ("fr.map, auto", "ThreadPoolExecutor()", "ThreadPoolExecutor(20)"),
        against(
            "20 waits of 50 ms",
            Series("fr.map, auto", "all"),
            {},
            ("ThreadPoolExecutor()",),
            ("ThreadPoolExecutor(20)",),
        ),
        size=(20, 20),
    ),
    Contest(
        "sleepers",
        "sleepers",
        (THREADS, "futures, threads"),
        (
            Row(
                "tasks of 50 ms on 256 threads, against nothing but their sleep",
                Series(THREADS, "all"),
                (Series(THREADS, "ideal", "nothing but sleep"),),
                at_most(1.2),
                cost=True,
            ),
            *against("tasks of 50 ms on 256 threads", Series(THREADS, "all"), {}, ("futures, threads",)),
        ),
        size=(10_000, 2_560),
        rounds=(5, 1),
    ),
    Contest(
        "arrays",
        "arrays",
        (*EVERYONE, "memcpy"),
        (
            *array_rows("in", "an array of 100 MB as the argument", 1),
            *array_rows("out", "an array of 100 MB as the result", 1),
            *array_rows("both", "an array of 100 MB as both", 2),
        ),
        size=(100_000_000, 10_000_000),
        of="bytes",
        rounds=(5, 1),
        repeats=(4, 1),
    ),
    Contest(
        "same-array",
        "same",
        (*EVERYONE, "memcpy"),
        (
            Row(
                "an array of 100 MB that 10 tasks have, per task, against a copy of it",
                Series(OURS, "task"),
                named("task", "memcpy"),
                cost=True,
            ),
            *against(
                "an array of 100 MB that 10 tasks have, per task", Series(OURS, "task"), {}, FUTURES, POOL, GUESTS
            ),
        ),
        size=(100_000_000, 10_000_000),
        of="bytes",
        rounds=(3, 1),
        repeats=(10, 3),
    ),
    Contest(
        "share",
        "shared",
        ("fr.share",),
        (
            Row(
                "`fr.share`: an array of 1 GB as the argument, against one of 1 KB",
                Series("fr.share", "large", "fr.share, 1 GB"),
                (Series("fr.share", "small", "fr.share, 1 KB"),),
                at_most(1.2),
                cost=True,
            ),
        ),
        size=(2**30, 2**26),
        of="bytes",
        rounds=(5, 2),
        repeats=(101, 11),
    ),
    Contest(
        "import",
        "interpreter",
        (IMPORT, *IMPORTS),
        tuple(import_row(IMPORT, theirs) for theirs in IMPORTS),
        rounds=(21, 2),
        repeats=(5, 3),
    ),
    Contest(
        "cold",
        "cold",
        EVERYONE,
        against(
            "the first result of a process, import included",
            Series(OURS, "first"),
            {FUTURES: within(0.1)},
            POOL,
            GUESTS,
        ),
    ),
    Contest(
        "cold-by-value",
        "cold by value",
        (OURS, "loky", "joblib", "Ray", "Dask"),
        against(
            "the first result of a process, a function that travels by value",
            Series(OURS, "first"),
            {},
            ("loky", "joblib", "Ray", "Dask"),
        ),
    ),
    Contest(
        "workers",
        "workers",
        (OURS, *FUTURES, *POOL, "loky", "pebble"),
        (
            *against("each further worker", Series(OURS, "each"), {FUTURES: within(0.003)}, POOL, ("loky", "pebble")),
            *against(
                "8 workers, until all have begun a task",
                Series(OURS, "all"),
                {FUTURES: within(0.02)},
                POOL,
                ("loky", "pebble"),
            ),
        ),
        size=(8, 8),
        of="workers",
    ),
    Contest(
        "memory",
        "memory",
        (OURS, *FUTURES, *POOL, *GUESTS),
        (
            *against(
                "an idle worker's memory (PSS)",
                Series(OURS, "worker"),
                {("futures, spawn",): at_least(2)},
                ("futures, fork", "futures, forkserver"),
                POOL,
                GUESTS,
                unit="B",
            ),
            *against(
                "the memory of 2 idle workers and of all helpers (PSS)",
                Series(OURS, "pool"),
                {},
                ("futures, spawn",),
                ("futures, fork", "futures, forkserver"),
                POOL,
                GUESTS,
                unit="B",
            ),
        ),
        rounds=(3, 1),
    ),
    Contest(
        "process",
        "start and join",
        ("fr.Process", *STARTS),
        against("a process, start and join", Series("fr.Process", "one"), {STARTS: within(0.004)}),
        size=(30, 5),
    ),
    Contest(
        "thread",
        "start and join",
        ("fr.Thread", "threading.Thread"),
        (
            Row(
                "a thread, start and join",
                Series("fr.Thread", "one"),
                named("one", "threading.Thread"),
                at_most(1.1),
                cost=True,
            ),
        ),
        size=(1000, 200),
    ),
    Contest(
        "million",
        "million",
        (OURS, THREADS, "Pool, fork"),
        (
            *(
                row
                for contestant, where in ((OURS, "2 processes"), (THREADS, "2 threads"))
                for row in (
                    whole(contestant, "last", "first", 1.05, f"a million tasks on {where}: time per task"),
                    whole(
                        contestant,
                        "memory last",
                        "memory first",
                        1.02,
                        f"a million tasks on {where}: memory of all processes (RSS)",
                        unit="B",
                    ),
                )
            ),
            *against("a million tasks on 2 processes, the last tenth", Series(OURS, "last"), {}, ("Pool, fork",)),
        ),
        size=(1_000_000, 10_000),
        rounds=(3, 1),
    ),
    Contest(
        "idle",
        "idle",
        (OURS, THREADS, *FUTURES, *POOL, *GUESTS),
        (
            *against(
                "a core's share for an idle pool of 2 processes",
                Series(OURS, "cpu"),
                {FUTURES: within(0.0005)},
                POOL,
                GUESTS,
                unit="%",
            ),
            Row("a core's share for an idle pool of 2 threads", Series(THREADS, "cpu"), (), within(0.0005), unit="%"),
        ),
        size=(5, 1),
        of="seconds",
        rounds=(3, 1),
    ),
    Contest(
        "growth-workers",
        "by workers",
        (OURS, THREADS, "futures, threads", *FUTURES[:2], *POOL, "loky", "mpire", "pebble"),
        curve=Curve("A tiny task by the number of workers, on 2 cores", "workers", base=2),
        size=(64, 4),
        of="workers",
        rounds=(3, 1),
        repeats=(3, 1),
    ),
    Contest(
        "growth-payload",
        "by payload",
        EVERYONE,
        curve=Curve("One task by the size of its argument, submit to result", "bytes"),
        size=(256_000_000, 1_000_000),
        of="bytes",
        rounds=(3, 1),
        repeats=(3, 1),
    ),
    Contest(
        "growth-queue",
        "by queue",
        (*EVERYONE, THREADS, "futures, threads"),
        curve=Curve("A tiny task by how many are submitted before the first result is taken", "tasks"),
        size=(100_000, 1_000),
        rounds=(3, 1),
        repeats=(3, 1),
    ),
    Contest(
        "tiny",
        "tiny",
        ("fr.map, auto", "ThreadPoolExecutor()"),
        tuple(
            Row(
                f"a map of trivial calls, {count} of them, over `list(map())`",
                Series("fr.map, auto", f"{count}"),
                named(f"{count}", "ThreadPoolExecutor()"),
                within(50e-6),
                without=f"{count} in a loop",
            )
            for count in (1, 10, 100, 1000)
        ),
        repeats=(200, 50),
    ),
)
