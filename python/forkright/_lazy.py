"""Maps whose results are taken one by one: `imap`, `imap_unordered` and `Executor.map`.

Called by `_map`, `_executor` and `_pool`, on nothing but an executor's `submit`. Without it every map would
have to read its iterables to their end first.
"""

from __future__ import annotations

import queue
import sys
import time
import weakref
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sized
from itertools import islice
from typing import TYPE_CHECKING, Any

from . import _map, _options, _pickling, _plan
from ._core import cpu_count
from ._executor import Executor

if TYPE_CHECKING:
    from ._future import Future
    from ._map import PlanLike, ProgressLike
    from ._progress import Display, Tally
    from ._seeding import Seed, Seeds

Iterables = tuple[Iterable[Any], ...]
Call = tuple[Any, ...]

# Chunks under way for each worker: one runs, the others are there when it ends, even if the caller is slow.
_AHEAD = 4


def imap_ordered(
    fn: Callable[..., Any],
    iterables: Iterables,
    plan: PlanLike,
    workers: int | None,
    chunksize: int,
    timeout: float | None,
    buffersize: int | None,
    shared_state: bool | None,
    terms: _options.Terms,
    seeds: Seeds | None,
    display: Display | None,
    cluster: Any,
) -> Generator[Any, None, None]:
    """An iterator of results in the order of the items; nothing is read or begun before its first `next`."""
    if not iterables:
        raise TypeError("imap() needs at least one iterable")
    job = Job(fn, iterables, plan, workers, chunksize, buffersize, shared_state, terms, seeds, display, cluster=cluster)
    results = _ordered(job, timeout)
    return results if display is None else display.over(results)


def imap_as_completed(
    fn: Callable[..., Any],
    iterables: Iterables,
    plan: PlanLike,
    workers: int | None,
    chunksize: int,
    timeout: float | None,
    buffersize: int | None,
    shared_state: bool | None,
    terms: _options.Terms,
    seeds: Seeds | None,
    display: Display | None,
    cluster: Any,
) -> Generator[Any, None, None]:
    """As `imap_ordered`, with each result as soon as it is there."""
    if not iterables:
        raise TypeError("imap_unordered() needs at least one iterable")
    job = Job(fn, iterables, plan, workers, chunksize, buffersize, shared_state, terms, seeds, display, cluster=cluster)
    results = _as_completed(job, timeout)
    return results if display is None else display.over(results)


def executor_map(
    executor: Executor,
    fn: Callable[..., Any],
    iterables: Iterables,
    timeout: float | None,
    chunksize: int,
    buffersize: int | None,
    seed: Seed | None,
    progress: ProgressLike,
    terms: _options.Terms = _options.NONE,
) -> Generator[Any, None, None]:
    """What `concurrent.futures.Executor.map` promises: items are read and calls submitted from the start."""
    check_sizes(chunksize, buffersize)
    until = None if timeout is None else time.monotonic() + timeout
    seeds = _map.seeds_of(seed)
    display = _map.display_of(progress, iterables)
    work = Work(fn, _calls(iterables), executor._plan, chunksize, buffersize, terms=terms, seeds=seeds)
    futures = deque[Any]()
    if display is not None:
        work.tally = display.begin_tally(executor, fn, terms)
    try:
        futures.extend(work.submit(executor, calls) for calls in islice(iter(work.take, []), work.width))
        if work.error is not None and buffersize is None:
            raise work.error
    except BaseException:
        _cancel(futures)
        if display is not None:
            display.end()
        raise
    # The results must not keep the executor: nobody may want to submit to it any more.
    results = _until_deadline(weakref.ref(executor), work, futures, until)
    return results if display is None else display.over(results)


def run_chunk(
    fn: Callable[..., Any], calls: list[Call], seeds: Seeds | None, start: int
) -> tuple[list[Any], bytes | None, int]:
    """In a worker process: make the calls in turn, the first of which has the index `start`; their values, the
    exception that ended them if any, and the number of those that it kept from being made."""
    values: list[Any] = []
    try:
        if seeds is None:
            _map.call_each(fn, iter(calls), values, True)
        else:
            seeds.call_each(fn, iter(calls), values, True, start)
    except BaseException as error:
        return values, _pickling.encode_exception(error), len(calls) - len(values) - 1
    return values, None, 0


class Work:
    """The calls of one map, a chunk at a time.

    What reading them raises is kept in `error`: results before it are delivered first. `width` is the number
    of chunks of `size` calls that may be under way or not taken, None for any.
    """

    def __init__(
        self,
        fn: Callable[..., Any],
        calls: Iterable[Call],
        plan: _plan.Plan | None,
        chunksize: int,
        buffersize: int | None = None,
        ahead: int | None = None,
        terms: _options.Terms = _options.NONE,
        seeds: Seeds | None = None,
    ) -> None:
        self._fn = fn
        self._seeds = seeds
        # Calls that have been submitted.
        self._count = 0
        self._calls = iter(calls)
        # Only on the way to another process do calls gain from company.
        self.size = min(chunksize, sys.maxsize) if plan is not None and plan.processes and terms == _options.NONE else 1
        self._terms = terms
        self.width = ahead
        if buffersize is not None:
            self.size = min(self.size, buffersize)
            self.width = buffersize // self.size
        self.error: Exception | None = None
        # Counts them, if somebody wants to see how far they are.
        self.tally: Tally | None = None

    def take(self) -> list[Call]:
        """Read the next chunk; an empty one at the end."""
        calls: list[Call] = []
        try:
            # What was read before an error counts.
            for call in islice(self._calls, self.size):
                calls.append(call)
        except Exception as error:
            self.error = error
            self._calls = iter(())
        return calls

    def submit(self, executor: Executor, calls: list[Call]) -> Future[Any]:
        future = self._submit(executor, calls)
        if self.tally is not None:
            self.tally.watch(future, len(calls))
        return future

    def _submit(self, executor: Executor, calls: list[Call]) -> Future[Any]:
        start = self._count
        self._count += len(calls)
        if self.size > 1:
            future: Future[Any] = executor._pool.submit(
                run_chunk, (self._fn, calls, self._seeds, start), None, self._fn
            )
            return future
        options = {} if self._seeds is None else {"rng": self._seeds.generator(start)}
        if self._terms is _options.NONE:
            return executor.submit(self._fn, *calls[0], **options)
        limited: Future[Any] = executor._submit(self._fn, calls[0], options, self._terms)
        return limited

    def values(self, outcome: list[Any]) -> Iterator[Any]:
        """The values of what `submit` promised. It comes in a list, which is emptied: once the caller has dropped a
        value, nothing here keeps it alive."""
        if self.size == 1:
            yield outcome.pop()
            return
        values, failure, left = outcome.pop()
        if failure is not None and self.tally is not None:
            self.tally.add(-left, 1)
        values.reverse()
        while values:
            yield values.pop()
        if failure is not None:
            raise failure if isinstance(failure, BaseException) else _pickling.decode_exception(failure)


class Job:
    """A lazy map that has an executor of its own, made when the first result is asked for."""

    def __init__(
        self,
        fn: Callable[..., Any],
        iterables: Iterables,
        plan: PlanLike,
        workers: int | None,
        chunksize: int,
        buffersize: int | None,
        shared_state: bool | None,
        terms: _options.Terms,
        seeds: Seeds | None = None,
        display: Display | None = None,
        kind: type[Work] = Work,
        cluster: Any = None,
    ) -> None:
        if not callable(fn):
            raise TypeError(f"the first argument must be callable, not {fn!r}")
        check_sizes(chunksize, buffersize)
        if cluster is None:
            fixed = _plan.parse(plan, workers)
            _plan.check_shared_state(shared_state, fixed)
        else:
            from . import _cluster

            fixed = _cluster.plan_for(cluster, fn, plan, workers, shared_state, terms)
        self._plan: PlanLike = plan
        self._workers, self._shared_state, self._cluster = workers, shared_state, cluster
        # What is chosen may become many threads; they can't be more than there are calls.
        count = fixed.workers if fixed else workers or min(32, cpu_count() + 4)
        serial = fixed is not None and fixed.kind == "serial"
        ahead = 1 if serial else _AHEAD * count
        self.work = kind(fn, _calls(iterables), fixed, chunksize, buffersize, ahead, terms, seeds)
        self._fn, self._terms, self._display = fn, terms, display

    def hire(self) -> Executor:
        executor = Executor(self._workers, plan=self._plan, shared_state=self._shared_state, cluster=self._cluster)
        if self._display is not None:
            self.work.tally = self._display.begin_tally(executor, self._fn, self._terms)
        return executor

    def dismiss(self, executor: Executor, wait: bool) -> None:
        # First, so that what it shows last are the workers that there were.
        if self._display is not None:
            self._display.end()
        executor.shutdown(wait=wait, cancel_futures=True)


def _ordered(job: Job, timeout: float | None) -> Generator[Any, None, None]:
    executor, work = job.hire(), job.work
    futures = deque[Any]()
    whole = False
    try:
        while True:
            for future in _more(executor, work, futures):
                futures.append(future)
                del future
            if not futures:
                whole = True
                break
            yield from work.values([_first_result(futures, timeout)])
    finally:
        # Whoever stops early, or has waited for long enough, does not wait for the calls that run.
        job.dismiss(executor, whole)
    if work.error is not None:
        raise work.error


def _as_completed(job: Job, timeout: float | None) -> Generator[Any, None, None]:
    executor, work = job.hire(), job.work
    done = queue.SimpleQueue[Any]()
    futures = set[Any]()
    try:
        while True:
            for future in _more(executor, work, futures):
                futures.add(future)
                future.add_done_callback(done.put)
            if not futures:
                break
            try:
                future = done.get(timeout=None if timeout is None else max(timeout, 0))
            except queue.Empty:
                raise TimeoutError from None
            futures.remove(future)
            outcome = [future.result()]
            del future
            yield from work.values(outcome)
    finally:
        job.dismiss(executor, not futures)
    if work.error is not None:
        raise work.error


def _more(executor: Executor, work: Work, under_way: Sized) -> Iterator[Future[Any]]:
    """Submit as many calls as there is room for; whoever asks adds them to those under way."""
    while (work.width is None or len(under_way) < work.width) and (calls := work.take()):
        yield work.submit(executor, calls)


def _until_deadline(
    executor: weakref.ref[Executor], work: Work, futures: deque[Any], until: float | None
) -> Generator[Any, None, None]:
    try:
        while futures:
            if work.width is not None and (alive := executor()) is not None and (calls := work.take()):
                futures.append(work.submit(alive, calls))
                del calls
            alive = None
            left = None if until is None else until - time.monotonic()
            yield from work.values([_first_result(futures, left)])
        if work.error is not None:
            raise work.error
    finally:
        _cancel(futures)


def _first_result(futures: deque[Any], timeout: float | None) -> Any:
    """Take the first future, of which no reference is left; cancel it if it is late."""
    future = futures.popleft()
    try:
        return future.result(timeout)
    finally:
        future.cancel()
        del future


def _calls(iterables: Iterables) -> Iterator[Call]:
    return zip(*iterables)  # noqa: B905 - the shortest ends it, as in map


def _cancel(futures: Iterable[Any]) -> None:
    for future in futures:
        future.cancel()


def check_sizes(chunksize: int, buffersize: int | None) -> None:
    if isinstance(chunksize, bool) or not isinstance(chunksize, int):
        raise TypeError(f"chunksize must be an integer, not {chunksize!r}")
    if chunksize < 1:
        raise ValueError("chunksize must be >= 1.")
    if buffersize is not None and (isinstance(buffersize, bool) or not isinstance(buffersize, int)):
        raise TypeError("buffersize must be an integer or None")
    if buffersize is not None and buffersize < 1:
        raise ValueError("buffersize must be None or > 0")
