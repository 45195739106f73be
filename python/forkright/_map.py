"""`map` and its relatives."""

from __future__ import annotations

import sys

from . import _core, _plan, _threads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Iterator
    from typing import Any, Literal, TypedDict, TypeVar, Unpack, overload

    from ._report import Report
    from ._seeding import Seed, Seeds

    R = TypeVar("R")
    PlanLike = _plan.Plan | Literal["auto", "serial", "threads", "processes", "hybrid"]
    OnError = Literal["raise", "return"]

    class AnyMapOptions(TypedDict, total=False):
        plan: PlanLike
        workers: int | None
        timeout: float | None
        shared_state: bool | None
        task_timeout: float | None
        retries: int
        cluster: Any

    class MapOptions(AnyMapOptions, total=False):
        chunksize: int | None
        on_error: OnError

    class SeededMapOptions(MapOptions, total=False):
        seed: Seed | None

    class IMapOptions(AnyMapOptions, total=False):
        chunksize: int
        buffersize: int | None


_last: _core.MapReport | Report | None = None

# In the flags of a function's code: calling it gives a coroutine.
_CO_COROUTINE = 0x80


if TYPE_CHECKING:

    @overload
    def map(
        fn: Callable[..., Coroutine[Any, Any, R]], /, *iterables: Iterable[Any], **options: Unpack[SeededMapOptions]
    ) -> list[R]: ...
    @overload
    def map(fn: Callable[..., R], /, *iterables: Iterable[Any], **options: Unpack[SeededMapOptions]) -> list[R]: ...


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
    cluster: Any = None,
) -> list[R]:
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
        cluster: Run the calls there instead: a `distributed.Client` of Dask's, ``"ray"`` or the module `ray`, or any
            `concurrent.futures.Executor` that stands for a cluster. ``workers`` caps the calls that run there at a
            time; there is no ``plan``, ``task_timeout`` or coroutine function. The report says whether the cluster
            pays. See docs/clusters.md.

    Raises:
        TimeoutError: If the time is up; calls that have not started never will.
        UnpicklableError: If the plan asks for processes and something can't travel there.
        WorkerDied: If a worker process died under an item.
        ImportError: If there is a ``seed`` and no NumPy.
        ValueError, TypeError: If an argument makes no sense.
    """
    items: Any
    if not iterables:
        raise TypeError("map() needs at least one iterable")
    star = len(iterables) > 1
    items = list(zip(*iterables)) if star else iterables[0]  # noqa: B905 - the shortest ends it, as in map
    terms = task_timeout, retries
    return _run(fn, items, star, plan, workers, chunksize, timeout, on_error, shared_state, *terms, seed, cluster)


if TYPE_CHECKING:

    @overload
    def starmap(
        fn: Callable[..., Coroutine[Any, Any, R]],
        iterable: Iterable[Iterable[Any]],
        /,
        **options: Unpack[SeededMapOptions],
    ) -> list[R]: ...
    @overload
    def starmap(
        fn: Callable[..., R], iterable: Iterable[Iterable[Any]], /, **options: Unpack[SeededMapOptions]
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
    cluster: Any = None,
) -> list[R]:
    """As `map`, for items that are tuples of arguments: ``fn(*item)``."""
    items = [tuple(item) for item in iterable]
    terms = task_timeout, retries
    return _run(fn, items, True, plan, workers, chunksize, timeout, on_error, shared_state, *terms, seed, cluster)


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
    cluster: Any = None,
) -> Iterator[R]:
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
    return imap_ordered(
        fn, iterables, plan, workers, chunksize, timeout, buffersize, shared_state, terms, seeds, cluster
    )


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
    cluster: Any = None,
) -> Iterator[R]:
    """As `imap`, with the results in the order in which they come."""
    from ._lazy import imap_as_completed

    terms = _terms(task_timeout, retries)
    seeds = seeds_of(seed)
    rest = shared_state, terms, seeds, cluster
    return imap_as_completed(fn, iterables, plan, workers, chunksize, timeout, buffersize, *rest)


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
    cluster: Any,
) -> list[Any]:
    global _last
    if cluster is not None:
        from . import _cluster

        check(fn, "auto", workers, chunksize, on_error, None)
        calls = list(items) if star else [(item,) for item in items]
        several, terms = on_error == "return", _terms(task_timeout, retries)
        results, told = _cluster.driver_of(
            cluster, fn, calls, plan, workers, chunksize, timeout, several, shared_state, terms, seeds_of(seed)
        ).run()
        keep(told)
        return results
    fixed = check(fn, plan, workers, chunksize, on_error, shared_state)
    seeds = seeds_of(seed)
    awaited = is_coroutine_function(fn)
    if awaited or task_timeout is not None or retries != 0:
        from . import _options

        terms = _options.parse(task_timeout, retries)
        several = on_error == "return"
        if awaited:
            if seeds is not None:
                raise TypeError("seed is for plain functions, not for coroutine functions")
            from . import _coroutines

            results, told = _coroutines.run_map(
                fn, items, star, plan, workers, chunksize, timeout, several, shared_state, terms
            )
            keep(told)
            return results
        results, _last = _options.run_map(fn, items, star, plan, workers, timeout, several, shared_state, terms, seeds)
        return results
    if chunksize is not None:
        chunksize = min(chunksize, sys.maxsize)
    # A range stays one; everything else is copied, so that nobody changes it while it is walked.
    if type(items) is not range:
        items = list(items)
    name = (getattr(fn, "__qualname__", None) or type(fn).__qualname__).replace("<locals>.", "")
    return_errors = on_error == "return"
    try:
        results, _last = _core.run_map(
            fn, name, items, star, fixed, workers, chunksize, timeout, return_errors, shared_state, seeds
        )
    finally:
        _threads.drain_logging()
    return results


def keep(report: str) -> None:
    """Have `report` tell of this map, in JSON, as the last one."""
    from ._report import Report

    global _last
    _last = Report(report)


def is_coroutine_function(fn: Any) -> bool:
    """Whether calling `fn` gives a coroutine; told without the help of `inspect`, which would have to be imported."""
    code = getattr(fn, "__code__", None)
    if code is None:
        if type(fn).__name__ == "partial":
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
