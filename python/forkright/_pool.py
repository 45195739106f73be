"""`Pool`: the shape of `multiprocessing.Pool` on an executor's workers.

For programs that were written for `multiprocessing`; nothing else of forkright needs it.
"""

from __future__ import annotations

import sys
import threading
import time
import warnings
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import CancelledError
from itertools import islice
from multiprocessing import TimeoutError as PoolTimeoutError
from pickle import PicklingError
from signal import SIGKILL, SIGTERM
from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypeVar, TypeVarTuple, overload

from . import _pickling, _plan, _threads
from ._core import cpu_count
from ._executor import Executor
from ._lazy import Work

if TYPE_CHECKING:
    from types import TracebackType

    from ._future import Future
    from ._map import Loose, PlanLike

A = TypeVar("A")
R = TypeVar("R")
Ts = TypeVarTuple("Ts")
Function = Callable[..., Any]
Callback = Callable[[R], object] | None

# Chunks that a map makes for each worker, as multiprocessing does: fewer would leave some idle at the end.
_SHARES = 4
# Seconds that workers have to end when asked to, and to obey SIGTERM.
_GRACE, _PATIENCE = 0.5, 5.0

_pools: weakref.WeakSet[Pool] = weakref.WeakSet()


class Pool:
    """Worker processes with the methods of `multiprocessing.Pool`.

    What differs: the main module is not imported by workers and needs no guard; functions may be lambdas or
    nested; a call whose worker dies fails with `WorkerDied`, and so do the calls that `terminate` ends, where
    `multiprocessing` lets their results wait for ever.

    Args:
        processes: Workers; one per usable core if None.
        initializer: Called first by each worker. If it raises, all calls fail with `BrokenWorkers`.
        initargs: Its arguments.
        maxtasksperchild: Tasks (or chunks of a map) after which a worker is replaced; never if None.
        plan: Where to run instead of on processes; as for `forkright.map`.

    Raises:
        ValueError, TypeError: If an argument makes no sense.
    """

    def __init__(
        self,
        processes: int | None = None,
        initializer: Function | None = None,
        initargs: Iterable[Any] = (),
        maxtasksperchild: int | None = None,
        *,
        plan: PlanLike = "processes",
    ) -> None:
        self._state = "starting"
        if processes is not None and processes < 1:
            raise ValueError("Number of processes must be at least 1")
        if maxtasksperchild is not None and (not isinstance(maxtasksperchild, int) or maxtasksperchild <= 0):
            raise ValueError("maxtasksperchild must be a positive int or None")
        self._executor = Executor(
            processes,
            plan=plan,
            initializer=initializer,
            initargs=tuple(initargs),
            max_tasks_per_child=maxtasksperchild,
        )
        self._plan = _plan.parse(plan, processes)
        self._workers = self._plan.workers if self._plan else processes or cpu_count()
        self._feeding = 0
        self._lock = threading.RLock()
        self._state = "running"
        _pools.add(self)

    def apply(self, func: Callable[..., R], args: Iterable[Any] = (), kwds: Mapping[str, Any] = {}) -> R:
        """``func(*args, **kwds)``, called by a worker."""
        return self.apply_async(func, args, kwds).get()

    def apply_async(
        self,
        func: Callable[..., R],
        args: Iterable[Any] = (),
        kwds: Mapping[str, Any] = {},
        callback: Callback[R] = None,
        error_callback: Callback[BaseException] = None,
    ) -> AsyncResult[R]:
        """As `apply`, without waiting."""
        self._check_running()
        future = self._executor.submit(func, *args, **kwds)
        return AsyncResult(self, [future], callback, error_callback)

    def map(self, func: Callable[[A], R], iterable: Iterable[A], chunksize: int | None = None) -> list[R]:
        """``[func(x) for x in iterable]``, called by the workers."""
        return self.map_async(func, iterable, chunksize).get()

    def map_async(
        self,
        func: Callable[[A], R],
        iterable: Iterable[A],
        chunksize: int | None = None,
        callback: Callback[list[R]] = None,
        error_callback: Callback[BaseException] = None,
    ) -> MapResult[R]:
        """As `map`, without waiting."""
        calls = [(item,) for item in iterable]
        return self._map(func, calls, chunksize, callback, error_callback)

    @overload
    def starmap(
        self, func: Callable[[*Ts], R], iterable: Iterable[tuple[*Ts]], chunksize: int | None = None
    ) -> list[R]: ...
    @overload
    def starmap(self, func: Callable[..., R], iterable: Iterable[Loose], chunksize: int | None = None) -> list[R]: ...
    def starmap(
        self, func: Callable[..., R], iterable: Iterable[Iterable[Any]], chunksize: int | None = None
    ) -> list[R]:
        """``[func(*x) for x in iterable]``, called by the workers."""
        calls = [tuple(item) for item in iterable]
        return self._map(func, calls, chunksize, None, None).get()

    @overload
    def starmap_async(
        self,
        func: Callable[[*Ts], R],
        iterable: Iterable[tuple[*Ts]],
        chunksize: int | None = None,
        callback: Callback[list[R]] = None,
        error_callback: Callback[BaseException] = None,
    ) -> MapResult[R]: ...
    @overload
    def starmap_async(
        self,
        func: Callable[..., R],
        iterable: Iterable[Loose],
        chunksize: int | None = None,
        callback: Callback[list[R]] = None,
        error_callback: Callback[BaseException] = None,
    ) -> MapResult[R]: ...
    def starmap_async(
        self,
        func: Callable[..., R],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
        callback: Callback[list[R]] = None,
        error_callback: Callback[BaseException] = None,
    ) -> MapResult[R]:
        """As `starmap`, without waiting."""
        calls = [tuple(item) for item in iterable]
        return self._map(func, calls, chunksize, callback, error_callback)

    def imap(self, func: Callable[[A], R], iterable: Iterable[A], chunksize: int = 1) -> IMapIterator[R]:
        """An iterator of results in order; a thread reads the iterable meanwhile."""
        return self._imap(IMapIterator, func, iterable, chunksize)

    def imap_unordered(self, func: Callable[[A], R], iterable: Iterable[A], chunksize: int = 1) -> IMapIterator[R]:
        """As `imap`, with the results in the order in which they come."""
        return self._imap(IMapUnorderedIterator, func, iterable, chunksize)

    def close(self) -> None:
        """Take no more calls; the workers end when all is done."""
        with self._lock:
            if self._state == "running":
                self._state = "closed"
            self._shut_if_fed()

    def terminate(self) -> None:
        """End the workers now. Calls that have not ended fail; threads finish the calls they run."""
        with self._lock:
            self._state = "terminated"
        _end(self._executor)

    def join(self) -> None:
        """Wait until the workers are gone.

        Raises:
            ValueError: If neither `close` nor `terminate` was called.
        """
        if self._state == "running":
            raise ValueError("Pool is still running")
        while self._feeding:
            time.sleep(0.001)
        self._executor.shutdown()

    def __enter__(self) -> Pool:
        self._check_running()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.terminate()

    def __del__(self) -> None:
        if self._state == "running":
            warnings.warn(f"unclosed running pool {self!r}", ResourceWarning, 2, self)
            # Whoever awaits a result holds the pool: nobody is there for what still runs.
            self._executor._pool.close(True)
            self._executor._pool.kill(SIGTERM, busy=True)

    def __reduce__(self) -> NoReturn:
        raise NotImplementedError("pool objects cannot be passed between processes or pickled")

    def __repr__(self) -> str:
        return f"<forkright.Pool {self._state} {self._workers} workers>"

    def _check_running(self) -> None:
        if self._state != "running":
            raise ValueError("Pool not running")

    def _map(
        self,
        func: Function,
        calls: list[tuple[Any, ...]],
        chunksize: int | None,
        callback: Callback[Any],
        error_callback: Callback[Any],
    ) -> MapResult[Any]:
        self._check_running()
        if chunksize is None:
            chunksize = -(-len(calls) // (self._workers * _SHARES)) or 1
        work = self._work(func, calls, chunksize)
        futures = [work.submit(self._executor, chunk) for chunk in iter(work.take, [])]
        return MapResult(self, futures, callback, error_callback, work)

    def _imap(
        self, kind: type[IMapIterator[Any]], func: Function, iterable: Iterable[Any], chunksize: int
    ) -> IMapIterator[Any]:
        self._check_running()
        items = iter(iterable)
        work = self._work(func, ((item,) for item in _whole_chunks(items, chunksize)), chunksize)
        results = kind(self, work)
        with self._lock:
            self._feeding += 1
        threading.Thread(target=self._feed, args=(work, results), name="forkright-imap", daemon=True).start()
        return results

    def _work(self, func: Function, calls: Iterable[tuple[Any, ...]], chunksize: int) -> Work:
        if chunksize < 1:
            raise ValueError(f"Chunksize must be 1+, not {chunksize}")
        return Work(func, calls, self._plan, chunksize)

    def _feed(self, work: Work, results: IMapIterator[Any]) -> None:
        """Submit calls as the workers go on; what the iterable raises comes after them."""
        recent = deque[Any]()
        try:
            while self._state != "terminated" and (calls := work.take()):
                if len(recent) >= self._workers * _SHARES:
                    recent.popleft().exception()
                recent.append(work.submit(self._executor, calls))
                results._add(recent[-1])
        except (CancelledError, RuntimeError):
            # The pool was terminated meanwhile.
            pass
        finally:
            results._end()
            with self._lock:
                self._feeding -= 1
                self._shut_if_fed()

    def _shut_if_fed(self) -> None:
        if self._state != "running" and not self._feeding:
            self._executor.shutdown(wait=False)


def _whole_chunks(items: Iterator[Any], size: int) -> Iterator[Any]:
    """The items, but those of a chunk that could not be read to its end: `multiprocessing` runs no call of it."""
    while chunk := list(islice(items, min(size, sys.maxsize))):
        yield from chunk


def _as_pickling_raised(error: BaseException) -> BaseException:
    """What a class's own way to pickle itself raised, as `multiprocessing` has it, with our sentence as a note."""
    cause = error.__cause__
    if type(error) is not _pickling.UnpicklableError or cause is None:
        return error
    # What `pickle` itself says of a value is said better by ours.
    if isinstance(cause, (PicklingError, TypeError, AttributeError, RecursionError)):
        return error
    cause.add_note(str(error))
    return cause


class AsyncResult(Generic[R]):
    """The result of a call that may not have ended yet, as `multiprocessing.pool.AsyncResult`."""

    def __init__(
        self, pool: Pool, futures: list[Future[Any]], callback: Callback[R], error_callback: Callback[BaseException]
    ) -> None:
        self._pool: Pool | None = pool
        self._futures = futures
        self._callback, self._error_callback = callback, error_callback
        self._left = len(futures)
        self._ended: tuple[bool, Any] | None = None
        self._lock = threading.RLock()
        # Without callbacks nobody needs to know of the end before somebody asks.
        self._told = None if callback is None and error_callback is None else threading.Event()
        if self._told is not None:
            for future in futures:
                future.add_done_callback(self._count)
            if not futures:
                self._tell()

    def ready(self) -> bool:
        """Whether the call has ended, and its callback with it."""
        if self._told is not None:
            return self._told.is_set()
        return all(future.done() for future in self._futures)

    def successful(self) -> bool:
        """Whether it ended without an exception.

        Raises:
            ValueError: If it has not ended.
        """
        if not self.ready():
            raise ValueError(f"{self!r} not ready")
        return self._outcome()[0]

    def wait(self, timeout: float | None = None) -> None:
        """Return when the call has ended, or after `timeout` seconds."""
        if self._told is not None:
            self._told.wait(timeout)
            return
        until = None if timeout is None else time.monotonic() + timeout
        for future in self._futures:
            try:
                future.exception(None if until is None else until - time.monotonic())
            except CancelledError:
                continue
            except TimeoutError:
                return

    def get(self, timeout: float | None = None) -> R:
        """The value of the call.

        Raises:
            multiprocessing.TimeoutError: If it has not ended after `timeout` seconds.
            BaseException: Whatever it raised.
        """
        self.wait(timeout)
        if not self.ready():
            raise PoolTimeoutError
        self._pool = None
        succeeded, value = self._outcome()
        if succeeded:
            return value  # type: ignore[no-any-return]
        raise value

    def _outcome(self) -> tuple[bool, Any]:
        with self._lock:
            if self._ended is None:
                try:
                    self._ended = True, self._value()
                except BaseException as error:
                    self._ended = False, _as_pickling_raised(error)
                self._futures = []
            return self._ended

    def _value(self) -> R:
        return self._futures[0].result()  # type: ignore[no-any-return]

    def _count(self, _: object) -> None:
        with self._lock:
            self._left -= 1
            last = self._left == 0
        if last:
            self._tell()

    def _tell(self) -> None:
        assert self._told is not None
        try:
            succeeded, value = self._outcome()
            callback = self._callback if succeeded else self._error_callback
            # Nobody is told of the calls that `terminate` ended.
            if callback is not None and (self._pool is None or self._pool._state != "terminated"):
                callback(value)
        finally:
            self._told.set()
            self._pool = None


class MapResult(AsyncResult[list[R]]):
    """The results of a map: a list, or the first exception, when all its calls have ended."""

    def __init__(
        self,
        pool: Pool,
        futures: list[Future[Any]],
        callback: Callback[list[R]],
        error_callback: Callback[BaseException],
        work: Work,
    ) -> None:
        self._work = work
        super().__init__(pool, futures, callback, error_callback)

    def _value(self) -> list[R]:
        return [value for future in self._futures for value in self._work.values([future.result()])]


class IMapIterator(Generic[R]):
    """Results in order, as `multiprocessing.pool.IMapIterator`: an exception does not end it."""

    def __init__(self, pool: Pool, work: Work) -> None:
        self._pool: Pool | None = pool
        self._work = work
        self._condition = threading.Condition()
        self._futures = deque[Any]()
        self._values: Iterator[Any] = iter(())
        self._left = 0
        self._fed = False

    def __iter__(self) -> IMapIterator[R]:
        return self

    def __next__(self) -> R:
        return self.next()

    def next(self, timeout: float | None = None) -> R:
        """The next result.

        Raises:
            StopIteration: If there is none.
            multiprocessing.TimeoutError: If it is not there after `timeout` seconds; it may be asked for again.
            BaseException: Whatever the call raised.
        """
        until = None if timeout is None else time.monotonic() + timeout
        while True:
            for value in self._values:
                return value  # type: ignore[no-any-return]
            self._values = self._work.values([self._take(until)])

    def _take(self, until: float | None) -> Any:
        """Take the outcome of one chunk."""
        with self._condition:
            if not self._condition.wait_for(self._is_over_or_has_one, _left(until)):
                raise PoolTimeoutError
            if not self._futures:
                self._pool = None
                error, self._work.error = self._work.error, None
                raise StopIteration if error is None else error
            future = self._futures[0]
        try:
            future.exception(_left(until))
        except TimeoutError:
            raise PoolTimeoutError from None
        except CancelledError:
            pass
        with self._condition:
            self._futures.remove(future)
            self._left -= 1
        return future.result()

    def _is_over_or_has_one(self) -> bool:
        return bool(self._futures) or (self._fed and self._left == 0)

    def _add(self, future: Any) -> None:
        with self._condition:
            self._left += 1
            self._append(future)

    def _append(self, future: Any) -> None:
        with self._condition:
            self._futures.append(future)
            self._condition.notify()

    def _end(self) -> None:
        with self._condition:
            self._fed = True
            self._condition.notify_all()


class IMapUnorderedIterator(IMapIterator[R]):
    """Results in the order in which they come."""

    def _add(self, future: Any) -> None:
        with self._condition:
            self._left += 1
        future.add_done_callback(self._append)


def _left(until: float | None) -> float | None:
    return None if until is None else max(until - time.monotonic(), 0)


def _end(executor: Executor) -> None:
    """Cancel what waits and end worker processes, by force if they ignore the request.

    One that runs nothing has been asked already, and gets its time: it may just be giving back the lock of a queue.
    """
    workers = executor._pool
    workers.close(True)
    if workers.pids():
        workers.kill(SIGTERM, busy=True)
        if workers.join(_GRACE):
            return
        workers.kill(SIGTERM)
        if not workers.join(_PATIENCE):
            workers.kill(SIGKILL)
            workers.join()


def _end_all() -> None:
    for pool in list(_pools):
        pool.terminate()


# Registered after that of `_threads`, so called before it: a program's end does not wait for a pool's calls.
assert _threads
threading._register_atexit(_end_all)  # type: ignore[attr-defined]
