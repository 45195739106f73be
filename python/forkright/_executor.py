"""`Executor`: calls one at a time, on the same workers as `map`."""

from __future__ import annotations

import concurrent.futures
import contextlib
import itertools
import threading
import weakref
from collections.abc import Callable, Generator, Iterable
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, overload

from . import _apart, _functions, _map, _options, _plan, _threads
from ._core import Pool, cpu_count

if TYPE_CHECKING:
    from types import EllipsisType, TracebackType
    from typing import Unpack

    from ._context import Contextual
    from ._future import Future
    from ._map import ExecutorMapOptions, PlanLike, ProgressLike, UnseededExecutorMapOptions
    from ._report import Report
    from ._seeding import Seed

P = ParamSpec("P")
A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")
D = TypeVar("D")
E = TypeVar("E")
R = TypeVar("R")
T = TypeVar("T")

_names = itertools.count()


class Executor(concurrent.futures.Executor):
    """Runs calls on workers, as any `concurrent.futures.Executor` does.

    Args:
        max_workers: Tasks that run at a time, at most; what suits the plan and the machine if None.
        plan: Where to run; as for `forkright.map`.
        initializer: Called first by each worker. If it raises, the executor is broken.
        initargs: Its arguments.
        max_tasks_per_child: Tasks after which a worker process is replaced; never if None.
        max_memory_per_child: Memory after which a worker process is replaced, as bytes or as text such as "500 MB" or
            "1.5 GiB"; never if None. What counts is the memory that a process has for itself, without what it shares
            with files and other processes. It is looked at between tasks, after a garbage collection: one that is over
            takes no more tasks, and ends when those on its other threads are done. No task is interrupted or lost.
        shared_state: Whether calls share state with this process; as for `forkright.map`.
        context: Has each call run in a copy of the context in which it was submitted; as for `forkright.map`. None has
            calls see no context variables but those of their worker's thread.
        cluster: Whose workers run the calls; as for `forkright.map`. Its end is its owner's. It takes none of ``plan``,
            ``initializer``, ``max_tasks_per_child`` and ``max_memory_per_child``. Nobody tells there whether a call has
            begun, so `Future.cancel` succeeds until its result is there.

    Raises:
        ValueError, TypeError: If an argument makes no sense.
    """

    def __init__(
        self,
        max_workers: int | None = None,
        *,
        plan: PlanLike = "auto",
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        max_tasks_per_child: int | None = None,
        max_memory_per_child: int | str | None = None,
        thread_name_prefix: str = "",
        shared_state: bool | None = None,
        context: Contextual | None = None,
        cluster: Any = None,
    ) -> None:
        _positive(max_workers)
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        if max_tasks_per_child is not None:
            if isinstance(max_tasks_per_child, bool) or not isinstance(max_tasks_per_child, int):
                raise TypeError("max_tasks_per_child must be an integer")
            if max_tasks_per_child <= 0:
                raise ValueError("max_tasks_per_child must be >= 1")
        max_memory = _options.parse_memory(max_memory_per_child)
        self._context = _context_asked_for(context)
        self._made = (initializer, tuple(initargs), max_tasks_per_child, max_memory, shared_state)
        self._abandoned = _apart.Abandoned()
        # Under "auto", for calls with terms that only a fixed plan can keep.
        self._others: dict[str, Executor] = {}
        self._stays: weakref.WeakKeyDictionary[Any, bool] = weakref.WeakKeyDictionary()
        self._lock = threading.Lock()
        self._asked = max_workers
        self._cluster = cluster
        self._plan: _plan.Plan | None
        self._pool: Pool
        if cluster is not None:
            from . import _cluster

            _cluster.check_context(context)
            self._pool, self._plan = _cluster.pool_of(cluster, plan, max_workers, self._made)
            self._max_workers = self._plan.workers
            return
        fixed = _plan.parse(plan, max_workers)
        _plan.check_shared_state(shared_state, fixed)
        self._plan = fixed
        self._max_workers = max_workers or (fixed.workers if fixed else cpu_count())
        pickled = None
        if initializer is not None and (fixed is None or fixed.processes):
            from . import _pickling, _spawning, _spec

            role = "the initializer and its arguments"
            try:
                payload, lent = _spawning.encode((initializer, tuple(initargs)), role, initializer)
                pickled = _spec.Initializer(initializer, payload, lent)
            except _pickling.UnpicklableError:
                if fixed is not None:
                    raise
                # Worker processes could not be made ready, so the choice is made: threads.
                fixed = _plan.Plan(threads=max_workers or min(32, cpu_count() + 4))
        prefix = thread_name_prefix or f"forkright-{next(_names)}"
        self._pool = Pool(
            fixed,
            plan == "serial" or (isinstance(plan, _plan.Plan) and plan.kind == "serial"),
            max_workers,
            prefix,
            initializer,
            tuple(initargs),
            pickled,
            max_tasks_per_child,
            max_memory,
            shared_state,
        )
        _threads.remember(self._pool)

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Run ``fn(*args, **kwargs)`` on a worker and return at once.

        These two lines give the same value; the second lets you carry on meanwhile::

            value = fn(*args, **kwargs)
            value = executor.submit(fn, *args, **kwargs).result()

        What a worker's fresh import would lose is noticed as by `forkright.map`, unless the initializer sets it. It is
        looked for at the first call of ``fn``; after that only a few names that it reads are looked at, for being
        bound anew: a list or dict that changes in place between calls goes unnoticed.

        Returns:
            A `forkright.Future`, which is a `concurrent.futures.Future`. Whatever ``fn`` raises is raised by its
            ``result()``, with the worker's traceback as the cause if it ran in another process. What can't travel to
            a worker process is raised there too, as `UnpicklableError`.

        Raises:
            RuntimeError: If the executor has been shut down, or belongs to the process this one was forked from.
        """
        if self._context is not None:
            fn = self._within(fn)
        return self._pool.submit(fn, args, kwargs)  # type: ignore[no-any-return]

    def options(
        self,
        *,
        task_timeout: float | None = None,
        retries: int = 0,
        priority: int = 0,
        context: Contextual | EllipsisType | None = ...,
    ) -> _options.Options:
        """A view on the same workers, whose ``submit`` and ``map`` take calls on these terms.

        Args:
            task_timeout: Seconds that a call may run, from when a worker begins it. Then its future fails with
                `TaskTimeoutError`. The worker process that runs it is killed and replaced, with all processes that it
                started; other calls that run on threads of that process die with it, calls that wait do not. On a
                thread nothing can be killed: the call is left to itself, and what it gives is dropped. "auto" takes
                worker processes unless what it calls must stay here.
            retries: How often a call is run again, elsewhere, whose worker process died under it or was killed because
                its time was up; for functions that may run twice. What the function raises is its result: it is not run
                again for that.
            priority: Of the calls that wait, those with a higher one begin first; those with the same, as they came.
            context: Instead of the executor's.

        Raises:
            ValueError, TypeError: If an argument makes no sense.
        """
        terms = _options.parse(task_timeout, retries, priority)
        if self._cluster is not None:
            from . import _cluster

            _cluster.check_terms(_cluster.find(self._cluster), terms)
            _cluster.check_context(None if context is ... else context)
        asked = self._context if context is ... else _context_asked_for(context)
        return _options.Options(self, terms, asked)

    @overload  # type: ignore[override]  # the standard library's checks nothing
    def map(
        self, fn: Callable[..., R], /, *iterables: Iterable[Any], seed: Seed, **options: Unpack[ExecutorMapOptions]
    ) -> Generator[R, None, None]: ...
    @overload
    def map(
        self, fn: Callable[[A], R], a: Iterable[A], /, **options: Unpack[UnseededExecutorMapOptions]
    ) -> Generator[R, None, None]: ...
    @overload
    def map(
        self, fn: Callable[[A, B], R], a: Iterable[A], b: Iterable[B], /, **options: Unpack[UnseededExecutorMapOptions]
    ) -> Generator[R, None, None]: ...
    @overload
    def map(
        self,
        fn: Callable[[A, B, C], R],
        a: Iterable[A],
        b: Iterable[B],
        c: Iterable[C],
        /,
        **options: Unpack[UnseededExecutorMapOptions],
    ) -> Generator[R, None, None]: ...
    @overload
    def map(
        self,
        fn: Callable[[A, B, C, D], R],
        a: Iterable[A],
        b: Iterable[B],
        c: Iterable[C],
        d: Iterable[D],
        /,
        **options: Unpack[UnseededExecutorMapOptions],
    ) -> Generator[R, None, None]: ...
    @overload
    def map(
        self,
        fn: Callable[[A, B, C, D, E], R],
        a: Iterable[A],
        b: Iterable[B],
        c: Iterable[C],
        d: Iterable[D],
        e: Iterable[E],
        /,
        **options: Unpack[UnseededExecutorMapOptions],
    ) -> Generator[R, None, None]: ...
    @overload
    def map(
        self,
        fn: Callable[..., R],
        a: Iterable[Any],
        b: Iterable[Any],
        c: Iterable[Any],
        d: Iterable[Any],
        e: Iterable[Any],
        f: Iterable[Any],
        /,
        *iterables: Iterable[Any],
        **options: Unpack[UnseededExecutorMapOptions],
    ) -> Generator[R, None, None]: ...
    def map(
        self,
        fn: Callable[..., R],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
        seed: Seed | None = None,
        progress: ProgressLike = False,
    ) -> Generator[R, None, None]:
        """Call ``fn`` with the items of the iterables; an iterator of the results, in order.

        Args:
            fn: Called once for each item.
            *iterables: Walked together; the shortest ends it.
            timeout: Seconds from this call until the last result; ``TimeoutError`` then.
            chunksize: Items that travel to a worker together.
            buffersize: Calls submitted whose results have not been taken, at most. None reads the iterables to
                their end at once, as the standard library does.
            seed: Has each call get a random generator of its own as ``rng``; as for `forkright.map`.
            progress: What to show of the calls until the last result is taken; as for `forkright.map`.
        """
        from . import _lazy

        return _lazy.executor_map(self, self._within(fn), iterables, timeout, chunksize, buffersize, seed, progress)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls; what was submitted still runs.

        Args:
            wait: Return only when all calls are done and the workers are gone.
            cancel_futures: Cancel the calls that have not started.
        """
        pools = self._pools()
        for pool in pools:
            pool.close(cancel_futures)
        if wait:
            for pool in pools:
                pool.join()
            _threads.drain_logging()

    def terminate_workers(self) -> None:
        """End worker processes by SIGTERM, with the calls they run, and take no more; does not wait for their end.

        As the method of `concurrent.futures.ProcessPoolExecutor` since Python 3.14. Calls that have not started are
        cancelled; those that run in a worker process fail with `WorkerDied` when it is dead, and are not run again. A
        task may handle SIGTERM, and then goes on; `kill_workers` ends it. What runs on a thread can't be ended and goes
        on. Under "auto" the worker processes that run other calls too go on.
        """
        self._dismiss(kill=False)

    def kill_workers(self) -> None:
        """As `terminate_workers`, but by SIGKILL, and worker processes end with all processes that they started."""
        self._dismiss(kill=True)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        if kind is None or not issubclass(kind, KeyboardInterrupt):
            return super().__exit__(kind, error, traceback)
        # Whoever interrupts the block does not want to wait for what it has submitted.
        self.kill_workers()
        try:
            self.shutdown()
        except KeyboardInterrupt:
            _threads.hurry()
            raise
        return None

    def _dismiss(self, kill: bool) -> None:
        for pool in self._pools():
            pool.dismiss(kill)

    def _pools(self) -> list[Pool]:
        with self._lock:
            return [self._pool, *(other._pool for other in self._others.values())]

    def report(self) -> Report:
        """What this executor did so far: tasks, workers and, where it chose, the plan of each function and why."""
        from ._report import Report

        return Report(self._told())

    def _told(self) -> str:
        from ._report import joined

        others = list(self._others.values())
        abandoned = [entry for executor in (self, *others) for entry in executor._abandoned.told()]
        return joined(self._pool.report(), [other._pool.report() for other in others], abandoned)

    def _now(self, fn: Callable[..., Any], terms: _options.Terms) -> tuple[int, int, int]:
        """How calls of `fn` on these terms run now: processes, threads in each, and workers that are there."""
        pool, (limit, retries, _) = self._pool, terms
        if self._plan is None and (limit is not None or retries):
            # There is none before the first of them has been submitted.
            stays = not Pool.kills or self._known_to_stay(_functions.without_context(fn))
            other = self._others.get("threads" if stays else "processes")
            pool = self._pool if other is None else other._pool
        return pool.now(fn)

    def _submit(
        self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], terms: _options.Terms
    ) -> Any:
        limit, retries, priority = terms
        if self._cluster is not None:
            return self._pool.submit(fn, args, kwargs, None, terms)
        if self._plan is None and (limit is not None or retries):
            return self._other(fn, args)._submit(fn, args, kwargs, terms)
        if limit is None or (self._plan is not None and self._plan.processes and Pool.kills):
            return self._pool.submit(fn, args, kwargs, None, terms)
        # What a process of the standard library's runs can't be killed alone either.
        abandoned = None if self._plan is not None and self._plan.processes else self._abandoned
        apart = (limit, abandoned, fn, args, kwargs)
        return self._pool.submit(_apart.run_apart, apart, None, fn, (None, retries, priority))

    def _within(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        """`fn`, its calls in the context that is asked for, if any is."""
        return _map.within(fn, self._context)

    def _other(self, fn: Callable[..., Any], args: tuple[Any, ...]) -> Executor:
        """Where calls of `fn` go that only a fixed plan can keep the terms of."""
        kind = "threads" if not Pool.kills or self._must_stay(fn, args) else "processes"
        with self._lock:
            if kind not in self._others:
                initializer, initargs, tasks, memory, shared_state = self._made
                self._others[kind] = Executor(
                    self._asked,
                    plan=kind,  # type: ignore[arg-type]
                    initializer=initializer,
                    initargs=initargs,
                    max_tasks_per_child=tasks,
                    max_memory_per_child=memory,
                    shared_state=shared_state,
                )
            return self._others[kind]

    def _must_stay(self, fn: Callable[..., Any], args: tuple[Any, ...]) -> bool:
        # What is bound to a context is made anew for each call.
        called = _functions.without_context(fn)
        known = self._known_to_stay(called)
        if known is None:
            from ._leave import consider

            shared_state = self._made[-1]
            known = bool(shared_state) or consider(fn, args, None, shared_state is None)[0] is not None
            with contextlib.suppress(TypeError):
                self._stays[called] = known
        return known

    def _known_to_stay(self, fn: Callable[..., Any]) -> bool | None:
        try:
            return self._stays.get(fn)
        except TypeError:  # it can't be referred to weakly, or has no hash
            return None

    def __repr__(self) -> str:
        return f"<forkright.{type(self).__name__} {self._plan or 'auto'}>"


class ThreadPoolExecutor(Executor, concurrent.futures.ThreadPoolExecutor):
    """`Executor` on threads, with the standard library's signature.

    It is one of the standard library's for ``isinstance`` alone: `asyncio` takes no other as a default executor.
    """

    def __init__(
        self,
        max_workers: int | None = None,
        thread_name_prefix: str = "",
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
    ) -> None:
        _positive(max_workers)
        super().__init__(
            max_workers,
            plan="threads",
            initializer=initializer,
            initargs=initargs,
            thread_name_prefix=thread_name_prefix,
        )


class ProcessPoolExecutor(Executor):
    """`Executor` on worker processes, with the standard library's signature.

    ``mp_context`` is accepted for its sake: forkright's workers are started in its own way, which neither forks this
    process nor imports its main script.
    """

    def __init__(
        self,
        max_workers: int | None = None,
        mp_context: object = None,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        *,
        max_tasks_per_child: int | None = None,
        max_memory_per_child: int | str | None = None,
    ) -> None:
        _positive(max_workers)
        super().__init__(
            plan=_plan.Plan(processes=cpu_count() if max_workers is None else max_workers),
            initializer=initializer,
            initargs=initargs,
            max_tasks_per_child=max_tasks_per_child,
            max_memory_per_child=max_memory_per_child,
        )


def _context_asked_for(context: Contextual | None) -> Contextual | None:
    if not context:
        return None
    from . import _context

    return _context.check(context)


def _positive(max_workers: int | None) -> None:
    if isinstance(max_workers, int) and max_workers <= 0:
        raise ValueError("max_workers must be greater than 0")
