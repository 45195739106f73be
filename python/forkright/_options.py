"""`Executor.options()` and what it asks for: a limit for each task, reruns after a worker's death, and a priority.

In a worker process the engine ends what is late, on a thread `_apart` does.
"""

from __future__ import annotations

import concurrent.futures
import re
import threading
from collections.abc import Callable, Generator, Iterable
from types import EllipsisType
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, overload

from . import _functions, _map

if TYPE_CHECKING:
    from typing import Unpack

    from ._context import Contextual
    from ._executor import Executor
    from ._future import Future
    from ._map import ExecutorMapOptions, PlanLike, ProgressLike, UnseededExecutorMapOptions
    from ._progress import Display
    from ._report import Report
    from ._seeding import Seed, Seeds

P = ParamSpec("P")
A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")
D = TypeVar("D")
E = TypeVar("E")
R = TypeVar("R")
T = TypeVar("T")

# Seconds, reruns, priority: as the engine takes them.
Terms = tuple[float | None, int, int]
NONE: Terms = (None, 0, 0)

_MOST_RETRIES = 2**32 - 1
_MOST_PRIORITY = 2**31 - 1
_MOST_MEMORY = 2**63 - 1


def parse(task_timeout: object, retries: object, priority: object = 0) -> Terms:
    """What was asked for, checked.

    Raises:
        ValueError, TypeError: If it makes no sense.
    """
    if task_timeout is not None:
        if isinstance(task_timeout, bool) or not isinstance(task_timeout, (int, float)):
            raise TypeError(f"task_timeout must be a number of seconds or None, not {task_timeout!r}")
        # Not `isnan`, for which an integer may be too large.
        if task_timeout != task_timeout or task_timeout <= 0:
            raise ValueError(f"task_timeout must be greater than 0, not {task_timeout}")
        task_timeout = None if task_timeout > threading.TIMEOUT_MAX else float(task_timeout)
    return task_timeout, _integer("retries", retries, 0, _MOST_RETRIES), _priority(priority)


def _priority(priority: object) -> int:
    return _integer("priority", priority, -_MOST_PRIORITY, _MOST_PRIORITY)


def _integer(name: str, value: object, least: int, most: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an integer, not {value!r}")
    if not least <= value <= most:
        raise ValueError(f"{name} must be from {least} to {most}, not {value}")
    return value


_UNITS = {"": 1, "b": 1}
_UNITS |= {prefix.lower() + "b": 1000**power for power, prefix in enumerate("kMGT", 1)}
_UNITS |= {prefix.lower() + "ib": 1024**power for power, prefix in enumerate("KMGT", 1)}


def parse_memory(max_memory: object) -> int | None:
    """Bytes, from bytes or from text such as "500 MB" or "1.5 GiB".

    Raises:
        ValueError, TypeError: If it makes no sense.
    """
    if max_memory is None:
        return None
    what = f"max_memory_per_child must be bytes or text such as '500 MB' or '1.5 GiB', not {max_memory!r}"
    if isinstance(max_memory, str):
        found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-zA-Z]*)\s*", max_memory)
        if found is None or found[2].lower() not in _UNITS:
            raise ValueError(what)
        max_memory = int(float(found[1]) * _UNITS[found[2].lower()])
    if isinstance(max_memory, bool) or not isinstance(max_memory, int):
        raise TypeError(what)
    return _integer("max_memory_per_child", max_memory, 1, _MOST_MEMORY)


class Options:
    """An executor's workers, with terms for the calls that are submitted here.

    It is a view: it owns nothing and needs no end of its own. Made by `Executor.options`, which tells what the terms
    mean.
    """

    __slots__ = ("_context", "_executor", "_terms")

    def __init__(self, executor: Executor, terms: Terms, context: Contextual | None) -> None:
        self._executor = executor
        self._terms = terms
        self._context = context

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """As `Executor.submit`, on these terms.

        The future fails with `TaskTimeoutError` if the call runs for longer than its ``task_timeout``.
        """
        if self._context is not None:
            fn = _map.within(fn, self._context)
        return self._executor._submit(fn, args, kwargs, self._terms)  # type: ignore[no-any-return]

    @overload
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
        """As `Executor.map`, each call on these terms. With a limit or reruns every call travels by itself."""
        from . import _lazy

        fn = _map.within(fn, self._context)
        return _lazy.executor_map(
            self._executor, fn, iterables, timeout, chunksize, buffersize, seed, progress, self._terms
        )

    def options(
        self,
        *,
        task_timeout: float | EllipsisType | None = ...,
        retries: int | EllipsisType = ...,
        priority: int | EllipsisType = ...,
        context: Contextual | EllipsisType | None = ...,
    ) -> Options:
        """A view with these terms instead; what is not named stays as it is here."""
        given = zip((task_timeout, retries, priority), self._terms, strict=True)
        terms = parse(*(old if new is ... else new for new, old in given))
        return Options(self._executor, terms, self._context if context is ... else context)

    def __repr__(self) -> str:
        limit, retries, priority = self._terms
        return f"<{self._executor!r} with task_timeout={limit}, retries={retries}, priority={priority}>"


def run_map(
    fn: Callable[..., Any],
    items: Iterable[Any],
    star: bool,
    plan: PlanLike,
    workers: int | None,
    timeout: float | None,
    return_errors: bool,
    shared_state: bool | None,
    terms: Terms,
    seeds: Seeds | None,
    display: Display | None,
) -> tuple[list[Any], Report]:
    """A map whose calls have terms; its results and its report."""
    from ._executor import Executor

    items = list(items)
    executor = Executor(workers, plan=plan, shared_state=shared_state)
    futures: list[Any] = []
    tally = None
    in_time = False
    try:
        if display is not None:
            display.total = len(items)
            tally = display.begin_tally(executor, fn, terms)
        for index, item in enumerate(items):
            options = {} if seeds is None else {"rng": seeds.generator(index)}
            futures.append(executor._submit(fn, tuple(item) if star else (item,), options, terms))
            if tally is not None:
                tally.watch(futures[-1])
        until = concurrent.futures.ALL_COMPLETED if return_errors else concurrent.futures.FIRST_EXCEPTION
        left = concurrent.futures.wait(futures, timeout, until).not_done
        failed = [future for future in futures if future.done() and future.exception() is not None]
        in_time = not left or (bool(failed) and not return_errors)
        errors = [future.exception() for future in failed]
        fatal = [error for error in errors if not (return_errors and isinstance(error, Exception))]
        if fatal:
            raise fatal[0]
        if not in_time:
            name = _functions.name_of(fn)
            done = len(futures) - len(left)
            raise TimeoutError(f"{done} of {len(futures)} tasks of `{name}` were done when the time was up")
        results = [future.result() if future.exception() is None else future.exception() for future in futures]
        return results, executor.report()
    finally:
        if display is not None:
            display.end()
        for future in futures:
            if not in_time and not future.done() and hasattr(future, "kill"):
                future.kill()
        # Whoever ran out of time does not wait for what still runs.
        executor.shutdown(wait=in_time, cancel_futures=True)
        futures.clear()
