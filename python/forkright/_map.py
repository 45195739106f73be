"""`map` and its relatives."""

from __future__ import annotations

import sys

from . import _core, _plan, _threads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator, Iterable, Iterator
    from typing import Any, Literal, TypedDict, TypeVar, TypeVarTuple, Unpack, overload

    from ._context import Contextual, Within
    from ._progress import Display, Progress
    from ._report import Report
    from ._seeding import Seed, Seeds

    # What functions take of their iterables, and what they return. The types of more than five iterables are not
    # checked, as by the built-in `map`, nor are any where there is a seed: functions then take a keyword of ours.
    A = TypeVar("A")
    B = TypeVar("B")
    C = TypeVar("C")
    D = TypeVar("D")
    E = TypeVar("E")
    R = TypeVar("R")
    Ts = TypeVarTuple("Ts")
    # Arguments of whose types and number nothing is known. Not tuples, whose are.
    Loose = list[Any] | Iterator[Any]
    PlanLike = _plan.Plan | Literal["auto", "serial", "threads", "processes", "hybrid"]
    OnError = Literal["raise", "return"]
    ProgressLike = bool | str | Callable[[Progress], object]

    class AnyMapOptions(TypedDict, total=False):
        plan: PlanLike
        workers: int | None
        timeout: float | None
        shared_state: bool | None
        task_timeout: float | None
        retries: int
        progress: ProgressLike
        context: Contextual | None
        cluster: Any

    class EagerOptions(AnyMapOptions, total=False):
        chunksize: int | None

    class ReturningMapOptions(EagerOptions, total=False):
        seed: None

    class MapOptions(EagerOptions, total=False):
        on_error: Literal["raise"]

    class UnseededMapOptions(MapOptions, total=False):
        seed: None

    class IMapOptions(AnyMapOptions, total=False):
        chunksize: int
        buffersize: int | None

    class UnseededIMapOptions(IMapOptions, total=False):
        seed: None

    class ExecutorMapOptions(TypedDict, total=False):
        timeout: float | None
        chunksize: int
        buffersize: int | None
        progress: ProgressLike

    class UnseededExecutorMapOptions(ExecutorMapOptions, total=False):
        seed: None


_last: _core.MapReport | Report | None = None

# In the flags of a function's code: calling it gives a coroutine.
_CO_COROUTINE = 0x80


if TYPE_CHECKING:

    @overload
    def map(
        fn: Callable[..., R],
        /,
        *iterables: Iterable[Any],
        seed: Seed,
        on_error: Literal["return"],
        **options: Unpack[EagerOptions],
    ) -> list[R | Exception]: ...
    @overload
    def map(
        fn: Callable[..., R], /, *iterables: Iterable[Any], seed: Seed, **options: Unpack[MapOptions]
    ) -> list[R]: ...
    @overload
    def map(
        fn: Callable[[A], Coroutine[Any, Any, R]],
        a: Iterable[A],
        /,
        *,
        on_error: Literal["return"],
        **options: Unpack[ReturningMapOptions],
    ) -> list[R | Exception]: ...
    @overload
    def map(
        fn: Callable[..., Coroutine[Any, Any, R]],
        a: Iterable[Any],
        b: Iterable[Any],
        /,
        *iterables: Iterable[Any],
        on_error: Literal["return"],
        **options: Unpack[ReturningMapOptions],
    ) -> list[R | Exception]: ...
    @overload
    def map(
        fn: Callable[[A], R], a: Iterable[A], /, *, on_error: Literal["return"], **options: Unpack[ReturningMapOptions]
    ) -> list[R | Exception]: ...
    @overload
    def map(
        fn: Callable[[A, B], R],
        a: Iterable[A],
        b: Iterable[B],
        /,
        *,
        on_error: Literal["return"],
        **options: Unpack[ReturningMapOptions],
    ) -> list[R | Exception]: ...
    @overload
    def map(
        fn: Callable[..., R],
        a: Iterable[Any],
        b: Iterable[Any],
        c: Iterable[Any],
        /,
        *iterables: Iterable[Any],
        on_error: Literal["return"],
        **options: Unpack[ReturningMapOptions],
    ) -> list[R | Exception]: ...
    @overload
    def map(
        fn: Callable[[A], Coroutine[Any, Any, R]], a: Iterable[A], /, **options: Unpack[UnseededMapOptions]
    ) -> list[R]: ...
    @overload
    def map(
        fn: Callable[[A, B], Coroutine[Any, Any, R]],
        a: Iterable[A],
        b: Iterable[B],
        /,
        **options: Unpack[UnseededMapOptions],
    ) -> list[R]: ...
    @overload
    def map(
        fn: Callable[[A, B, C], Coroutine[Any, Any, R]],
        a: Iterable[A],
        b: Iterable[B],
        c: Iterable[C],
        /,
        **options: Unpack[UnseededMapOptions],
    ) -> list[R]: ...
    @overload
    def map(
        fn: Callable[..., Coroutine[Any, Any, R]],
        a: Iterable[Any],
        b: Iterable[Any],
        c: Iterable[Any],
        d: Iterable[Any],
        /,
        *iterables: Iterable[Any],
        **options: Unpack[UnseededMapOptions],
    ) -> list[R]: ...
    @overload
    def map(fn: Callable[[A], R], a: Iterable[A], /, **options: Unpack[UnseededMapOptions]) -> list[R]: ...
    @overload
    def map(
        fn: Callable[[A, B], R], a: Iterable[A], b: Iterable[B], /, **options: Unpack[UnseededMapOptions]
    ) -> list[R]: ...
    @overload
    def map(
        fn: Callable[[A, B, C], R],
        a: Iterable[A],
        b: Iterable[B],
        c: Iterable[C],
        /,
        **options: Unpack[UnseededMapOptions],
    ) -> list[R]: ...
    @overload
    def map(
        fn: Callable[[A, B, C, D], R],
        a: Iterable[A],
        b: Iterable[B],
        c: Iterable[C],
        d: Iterable[D],
        /,
        **options: Unpack[UnseededMapOptions],
    ) -> list[R]: ...
    @overload
    def map(
        fn: Callable[[A, B, C, D, E], R],
        a: Iterable[A],
        b: Iterable[B],
        c: Iterable[C],
        d: Iterable[D],
        e: Iterable[E],
        /,
        **options: Unpack[UnseededMapOptions],
    ) -> list[R]: ...
    @overload
    def map(
        fn: Callable[..., R],
        a: Iterable[Any],
        b: Iterable[Any],
        c: Iterable[Any],
        d: Iterable[Any],
        e: Iterable[Any],
        f: Iterable[Any],
        /,
        *iterables: Iterable[Any],
        **options: Unpack[UnseededMapOptions],
    ) -> list[R]: ...


def map(
    fn: Callable[..., Any],
    /,
    *iterables: Iterable[Any],
    plan: PlanLike = "auto",
    workers: int | None = None,
    chunksize: int | None = None,
    timeout: float | None = None,
    on_error: OnError = "raise",
    shared_state: bool | None = None,
    task_timeout: float | None = None,
    retries: int = 0,
    seed: Seed | None = None,
    progress: ProgressLike = False,
    context: Contextual | None = None,
    cluster: Any = None,
) -> list[Any]:
    """Call ``fn`` with the items of the iterables, many at once, and return the results in order.

    These two lines give the same list; the second runs the calls on the workers that suit them::

        results = [fn(x) for x in xs]
        results = forkright.map(fn, xs)

    Several iterables are walked together and stop with the shortest, as with the built-in ``map``. Every item is run
    exactly once. `forkright.report` tells afterwards where, why and what it cost.

    Worker processes import your modules afresh. Where that would lose what ``fn`` reads here (a setting changed at run
    time, a patched helper, a file edited since), ``"auto"`` stays in this process, and the other plans run as asked
    and give a `ForkrightWarning`.

    Calls of a coroutine function run concurrently on an event loop, 100 at a time or ``workers`` if given; the list has
    what they return. A plan with processes gives each a loop of its own. See docs/asyncio.md.

    Args:
        fn: Called once for each item. Lambdas, closures and functions of ``__main__`` may go to processes too.
        *iterables: At least one; each is read to its end before the first call, in the calling thread.
        plan: Where to run: ``"auto"`` measures and chooses, ``"serial"``, ``"threads"``, ``"processes"`` and
            ``"hybrid"`` take a size that suits the machine, a `Plan` says exactly.
        workers: Tasks that run at a time, at most; caps processes x threads.
        chunksize: Items that travel to a worker together; chosen as the work goes if None.
        timeout: Seconds for the whole map.
        on_error: ``"raise"`` raises the exception of the first item that failed, and starts no further item;
            ``"return"`` puts each exception in its result's place.
        shared_state: Whether ``fn`` shares state with the caller that would be lost in another process. None has
            ``"auto"`` find out. True keeps the calls in this process. False is your word that nothing of it matters:
            nothing is looked for, neither by ``"auto"`` nor in worker processes, and what can't be pickled still stays.

        task_timeout: Seconds for each call, from when a worker begins it; `TaskTimeoutError` in its place then. Worker
            processes are killed for it; see `Executor.options`. Each call then travels by itself, and "auto" takes
            worker processes from the start unless ``fn`` must stay here.
        retries: How often a call is run again whose worker process died or was killed for its ``task_timeout``.
        seed: Has each call get a `numpy.random.Generator` of its own, as the keyword argument ``rng``: the i-th call
            that of ``numpy.random.SeedSequence(seed).spawn(n)[i]``. So it draws the same numbers under every plan. An
            integer, several, or a ``SeedSequence``, which is left as it is. What ``fn`` draws from `random` and
            `numpy.random` themselves does not follow from it: a process has one of each, which its threads share. Not
            for coroutine functions.
        progress: What to show meanwhile: True shows a bar of tqdm's, on a terminal and in notebooks, a text does so
            with that text before it. A callable is called with a `Progress` some ten times a second, in a thread of
            its own, and once more at the end, however the map ends; see docs/progress.md.
        context: Has each call run in a copy of your context, so that it sees your context variables (`contextvars`,
            `decimal`, NumPy's error state) and what it sets is seen by nobody else. True takes what is set now, several
            ``ContextVar`` these alone, a ``Context`` that one. To worker processes goes what can be pickled; of what is
            named, all must. None: threads and worker processes see none of it, as those of the standard library, but
            under ``"auto"`` calls see what they would see in the calling thread, which may run some: all of it in this
            process, your own modules' variables elsewhere. See docs/context.md.
        cluster: Run the calls there instead: a `distributed.Client` of Dask's, ``"ray"`` or the module `ray`, or any
            `concurrent.futures.Executor` that stands for a cluster. ``workers`` caps the calls that run there at a
            time; there is no ``plan``, ``task_timeout`` or coroutine function. The report says whether the cluster
            pays. See docs/clusters.md.

    Raises:
        TimeoutError: If the time is up; calls that have not started never will.
        UnpicklableError: If the plan asks for processes and something can't travel there.
        WorkerDied: If a worker process died under an item.
        ImportError: If there is a ``seed`` and no NumPy, or a bar is to be shown and there is no tqdm.
        ValueError, TypeError: If an argument makes no sense.
    """
    if not iterables:
        raise TypeError("map() needs at least one iterable")
    first, *others = iterables
    items = list(zip(first, *others)) if others else first  # noqa: B905 - the shortest ends it, as in map
    return _run(
        fn,
        items,
        bool(others),
        plan,
        workers,
        chunksize,
        timeout,
        on_error,
        shared_state,
        task_timeout,
        retries,
        seed,
        progress,
        context,
        cluster,
    )


if TYPE_CHECKING:

    @overload
    def starmap(
        fn: Callable[..., R],
        iterable: Iterable[Iterable[Any]],
        /,
        *,
        seed: Seed,
        on_error: Literal["return"],
        **options: Unpack[EagerOptions],
    ) -> list[R | Exception]: ...
    @overload
    def starmap(
        fn: Callable[..., R], iterable: Iterable[Iterable[Any]], /, *, seed: Seed, **options: Unpack[MapOptions]
    ) -> list[R]: ...
    @overload
    def starmap(
        fn: Callable[[*Ts], Coroutine[Any, Any, R]],
        iterable: Iterable[tuple[*Ts]],
        /,
        *,
        on_error: Literal["return"],
        **options: Unpack[ReturningMapOptions],
    ) -> list[R | Exception]: ...
    @overload
    def starmap(
        fn: Callable[..., Coroutine[Any, Any, R]],
        iterable: Iterable[Loose],
        /,
        *,
        on_error: Literal["return"],
        **options: Unpack[ReturningMapOptions],
    ) -> list[R | Exception]: ...
    @overload
    def starmap(
        fn: Callable[[*Ts], R],
        iterable: Iterable[tuple[*Ts]],
        /,
        *,
        on_error: Literal["return"],
        **options: Unpack[ReturningMapOptions],
    ) -> list[R | Exception]: ...
    @overload
    def starmap(
        fn: Callable[..., R],
        iterable: Iterable[Loose],
        /,
        *,
        on_error: Literal["return"],
        **options: Unpack[ReturningMapOptions],
    ) -> list[R | Exception]: ...
    @overload
    def starmap(
        fn: Callable[[*Ts], Coroutine[Any, Any, R]],
        iterable: Iterable[tuple[*Ts]],
        /,
        **options: Unpack[UnseededMapOptions],
    ) -> list[R]: ...
    @overload
    def starmap(
        fn: Callable[..., Coroutine[Any, Any, R]], iterable: Iterable[Loose], /, **options: Unpack[UnseededMapOptions]
    ) -> list[R]: ...
    @overload
    def starmap(
        fn: Callable[[*Ts], R], iterable: Iterable[tuple[*Ts]], /, **options: Unpack[UnseededMapOptions]
    ) -> list[R]: ...
    @overload
    def starmap(
        fn: Callable[..., R], iterable: Iterable[Loose], /, **options: Unpack[UnseededMapOptions]
    ) -> list[R]: ...


def starmap(
    fn: Callable[..., Any],
    iterable: Iterable[Iterable[Any]],
    /,
    *,
    plan: PlanLike = "auto",
    workers: int | None = None,
    chunksize: int | None = None,
    timeout: float | None = None,
    on_error: OnError = "raise",
    shared_state: bool | None = None,
    task_timeout: float | None = None,
    retries: int = 0,
    seed: Seed | None = None,
    progress: ProgressLike = False,
    context: Contextual | None = None,
    cluster: Any = None,
) -> list[Any]:
    """As `map`, for items that are tuples of arguments: ``fn(*item)``."""
    items = [tuple(item) for item in iterable]
    return _run(
        fn,
        items,
        True,
        plan,
        workers,
        chunksize,
        timeout,
        on_error,
        shared_state,
        task_timeout,
        retries,
        seed,
        progress,
        context,
        cluster,
    )


if TYPE_CHECKING:

    @overload
    def imap(
        fn: Callable[..., R], /, *iterables: Iterable[Any], seed: Seed, **options: Unpack[IMapOptions]
    ) -> Generator[R, None, None]: ...
    @overload
    def imap(
        fn: Callable[[A], R], a: Iterable[A], /, **options: Unpack[UnseededIMapOptions]
    ) -> Generator[R, None, None]: ...
    @overload
    def imap(
        fn: Callable[[A, B], R], a: Iterable[A], b: Iterable[B], /, **options: Unpack[UnseededIMapOptions]
    ) -> Generator[R, None, None]: ...
    @overload
    def imap(
        fn: Callable[[A, B, C], R],
        a: Iterable[A],
        b: Iterable[B],
        c: Iterable[C],
        /,
        **options: Unpack[UnseededIMapOptions],
    ) -> Generator[R, None, None]: ...
    @overload
    def imap(
        fn: Callable[[A, B, C, D], R],
        a: Iterable[A],
        b: Iterable[B],
        c: Iterable[C],
        d: Iterable[D],
        /,
        **options: Unpack[UnseededIMapOptions],
    ) -> Generator[R, None, None]: ...
    @overload
    def imap(
        fn: Callable[[A, B, C, D, E], R],
        a: Iterable[A],
        b: Iterable[B],
        c: Iterable[C],
        d: Iterable[D],
        e: Iterable[E],
        /,
        **options: Unpack[UnseededIMapOptions],
    ) -> Generator[R, None, None]: ...
    @overload
    def imap(
        fn: Callable[..., R],
        a: Iterable[Any],
        b: Iterable[Any],
        c: Iterable[Any],
        d: Iterable[Any],
        e: Iterable[Any],
        f: Iterable[Any],
        /,
        *iterables: Iterable[Any],
        **options: Unpack[UnseededIMapOptions],
    ) -> Generator[R, None, None]: ...


def imap(
    fn: Callable[..., R],
    /,
    *iterables: Iterable[Any],
    plan: PlanLike = "auto",
    workers: int | None = None,
    chunksize: int = 1,
    timeout: float | None = None,
    buffersize: int | None = None,
    shared_state: bool | None = None,
    task_timeout: float | None = None,
    retries: int = 0,
    seed: Seed | None = None,
    progress: ProgressLike = False,
    context: Contextual | None = None,
    cluster: Any = None,
) -> Generator[R, None, None]:
    """As `map`, but lazily: an iterator of results in order, with a bounded number of calls ahead of them.

    An endless iterable works and memory stays flat: items are read as results are taken.

    Args:
        timeout: Seconds that taking one result may last.
        buffersize: Calls under way or done whose results have not been taken, at most; a few for each worker if None.
        chunksize: Items that travel to a worker together.
    """
    from ._lazy import imap_ordered

    terms = _terms(task_timeout, retries)
    seeds = seeds_of(seed)
    fn = within(fn, context, cluster)
    display = display_of(progress, iterables)
    return imap_ordered(
        fn, iterables, plan, workers, chunksize, timeout, buffersize, shared_state, terms, seeds, display, cluster
    )


if TYPE_CHECKING:

    @overload
    def imap_unordered(
        fn: Callable[..., R], /, *iterables: Iterable[Any], seed: Seed, **options: Unpack[IMapOptions]
    ) -> Generator[R, None, None]: ...
    @overload
    def imap_unordered(
        fn: Callable[[A], R], a: Iterable[A], /, **options: Unpack[UnseededIMapOptions]
    ) -> Generator[R, None, None]: ...
    @overload
    def imap_unordered(
        fn: Callable[[A, B], R], a: Iterable[A], b: Iterable[B], /, **options: Unpack[UnseededIMapOptions]
    ) -> Generator[R, None, None]: ...
    @overload
    def imap_unordered(
        fn: Callable[[A, B, C], R],
        a: Iterable[A],
        b: Iterable[B],
        c: Iterable[C],
        /,
        **options: Unpack[UnseededIMapOptions],
    ) -> Generator[R, None, None]: ...
    @overload
    def imap_unordered(
        fn: Callable[[A, B, C, D], R],
        a: Iterable[A],
        b: Iterable[B],
        c: Iterable[C],
        d: Iterable[D],
        /,
        **options: Unpack[UnseededIMapOptions],
    ) -> Generator[R, None, None]: ...
    @overload
    def imap_unordered(
        fn: Callable[[A, B, C, D, E], R],
        a: Iterable[A],
        b: Iterable[B],
        c: Iterable[C],
        d: Iterable[D],
        e: Iterable[E],
        /,
        **options: Unpack[UnseededIMapOptions],
    ) -> Generator[R, None, None]: ...
    @overload
    def imap_unordered(
        fn: Callable[..., R],
        a: Iterable[Any],
        b: Iterable[Any],
        c: Iterable[Any],
        d: Iterable[Any],
        e: Iterable[Any],
        f: Iterable[Any],
        /,
        *iterables: Iterable[Any],
        **options: Unpack[UnseededIMapOptions],
    ) -> Generator[R, None, None]: ...


def imap_unordered(
    fn: Callable[..., R],
    /,
    *iterables: Iterable[Any],
    plan: PlanLike = "auto",
    workers: int | None = None,
    chunksize: int = 1,
    timeout: float | None = None,
    buffersize: int | None = None,
    shared_state: bool | None = None,
    task_timeout: float | None = None,
    retries: int = 0,
    seed: Seed | None = None,
    progress: ProgressLike = False,
    context: Contextual | None = None,
    cluster: Any = None,
) -> Generator[R, None, None]:
    """As `imap`, with the results in the order in which they come."""
    from ._lazy import imap_as_completed

    terms = _terms(task_timeout, retries)
    seeds = seeds_of(seed)
    fn = within(fn, context, cluster)
    display = display_of(progress, iterables)
    return imap_as_completed(
        fn, iterables, plan, workers, chunksize, timeout, buffersize, shared_state, terms, seeds, display, cluster
    )


def call_each(fn: Callable[..., R], items: Iterator[Any], results: list[R], star: bool) -> None:
    """Append what ``fn`` gives for each item. The engine calls this: no loop in Rust is as cheap.

    Raises:
        BaseException: What ``fn`` raised. The next item comes next then.
    """
    if star:
        for item in items:
            results.append(fn(*item))
    else:
        for item in items:
            results.append(fn(item))


def report() -> Report:
    """What the last `map` or `starmap` of this process did: plan, reasons, tasks, workers, time.

    Raises:
        LookupError: If there has been none.
    """
    from ._report import Report

    if _last is None:
        raise LookupError("there is no report yet: nothing has been mapped")
    return Report(_last.to_json())


def _terms(task_timeout: float | None, retries: int) -> tuple[float | None, int, int]:
    from . import _options

    return _options.parse(task_timeout, retries)


def seeds_of(seed: Seed | None) -> Seeds | None:
    """What gives each call a generator of its own, if somebody asked for that."""
    if seed is None:
        return None
    from ._seeding import Seeds

    return Seeds(seed)


def display_of(progress: ProgressLike, iterables: Iterable[Iterable[Any]] = ()) -> Display | None:
    """What shows how far a map is, a lazy one of these iterables or another, if somebody asked for that."""
    if progress is False:
        return None
    from ._progress import Display

    return Display(progress, iterables)


def within(fn: Callable[..., Any], context: Contextual | None, cluster: object = None) -> Callable[..., Any]:
    """`fn`, its calls in the context that is asked for, if any is."""
    if context is None or context is False:
        return fn
    if cluster is not None:
        from . import _cluster

        _cluster.check_context(context)
    from . import _context

    return _context.bind(fn, context)


def _ambient(fn: Callable[..., Any]) -> Within | None:
    """`fn` as it is called elsewhere, to see what it would see here; None if there is nothing to see."""
    # Whatever has a context variable has imported one of these.
    if "_contextvars" not in sys.modules and "_decimal" not in sys.modules:
        return None
    from _contextvars import copy_context

    context = copy_context()
    if not len(context):
        return None
    from . import _context

    return _context.within(fn, context, everywhere=False)


def _run(
    fn: Callable[..., Any],
    items: Any,
    star: bool,
    plan: PlanLike,
    workers: int | None,
    chunksize: int | None,
    timeout: float | None,
    on_error: OnError,
    shared_state: bool | None,
    task_timeout: float | None,
    retries: int,
    seed: Seed | None,
    progress: ProgressLike,
    context: Contextual | None,
    cluster: Any,
) -> list[Any]:
    global _last
    if cluster is not None:
        from . import _cluster

        check(fn, "auto", workers, chunksize, on_error, None)
        calls = list(items) if star else [(item,) for item in items]
        several, terms = on_error == "return", _terms(task_timeout, retries)
        seeds, display = seeds_of(seed), display_of(progress)
        within(fn, context, cluster)
        results, told = _cluster.driver_of(
            cluster, fn, calls, plan, workers, chunksize, timeout, several, shared_state, terms, seeds, display
        ).run()
        keep(told)
        return results
    fixed = check(fn, plan, workers, chunksize, on_error, shared_state)
    seeds = seeds_of(seed)
    display = display_of(progress)
    awaited = is_coroutine_function(fn)
    name = _name_of(fn)
    fn = within(fn, context)
    around = _ambient(fn) if fixed is None and not awaited and not context else None
    if awaited or task_timeout is not None or retries != 0:
        from . import _options

        fn = around or fn

        terms = _options.parse(task_timeout, retries)
        several = on_error == "return"
        if awaited:
            if seeds is not None:
                raise TypeError("seed is for plain functions, not for coroutine functions")
            from . import _coroutines

            results, told = _coroutines.run_map(
                fn, items, star, plan, workers, chunksize, timeout, several, shared_state, terms, display
            )
            keep(told)
            return results
        results, _last = _options.run_map(
            fn, items, star, plan, workers, timeout, several, shared_state, terms, seeds, display
        )
        return results
    if chunksize is not None:
        chunksize = min(chunksize, sys.maxsize)
    # A range stays one; everything else is copied, so that nobody changes it while it is walked.
    if type(items) is not range:
        items = list(items)
    return_errors = on_error == "return"
    glimpse = None if display is None else display.begin_map(len(items))
    try:
        results, _last = _core.run_map(
            fn,
            name,
            items,
            star,
            fixed,
            workers,
            chunksize,
            timeout,
            return_errors,
            shared_state,
            seeds,
            glimpse,
            around,
        )
    finally:
        if display is not None:
            display.end()
        _threads.drain_logging()
        state = sys.modules.get("forkright._state")
        if state is not None:
            state.leave_map()
    return results


def keep(report: str) -> None:
    """Have `report` tell of this map, in JSON, as the last one."""
    from ._report import Report

    global _last
    _last = Report(report)


def _name_of(fn: Any) -> str:
    name = getattr(fn, "__qualname__", None)
    if isinstance(name, str):
        # Most have one of their own, and small maps no time for an import.
        return name.replace("<locals>.", "")
    from . import _functions

    return _functions.name_of(fn)


def is_coroutine_function(fn: Any) -> bool:
    """Whether calling `fn` gives a coroutine; told without the help of `inspect`, which would have to be imported."""
    code = getattr(fn, "__code__", None)
    if code is None:
        if type(fn).__name__ in ("partial", "Within"):
            return is_coroutine_function(fn.func)
        code = getattr(type(fn).__call__, "__code__", None)
    return bool(getattr(code, "co_flags", 0) & _CO_COROUTINE)


def check(
    fn: object,
    plan: object,
    workers: int | None,
    chunksize: int | None,
    on_error: object,
    shared_state: bool | None,
) -> _plan.Plan | None:
    """See that what a map is given makes sense; its plan, None for "auto".

    Raises:
        TypeError, ValueError: If not.
    """
    if not callable(fn):
        raise TypeError(f"the first argument must be callable, not {fn!r}")
    if chunksize is not None and (isinstance(chunksize, bool) or not isinstance(chunksize, int)):
        raise TypeError(f"chunksize must be an integer or None, not {chunksize!r}")
    if chunksize is not None and chunksize < 1:
        raise ValueError(f"chunksize must be greater than 0, not {chunksize}")
    if on_error not in ("raise", "return"):
        raise ValueError(f"on_error must be 'raise' or 'return', not {on_error!r}")
    fixed = _plan.parse(plan, workers)
    _plan.check_shared_state(shared_state, fixed)
    return fixed
