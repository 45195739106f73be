"""Maps on an executor of their own that another thread may stop: those of asyncio programs, and all of coroutine
functions that worker processes run.

Called by `_map` and `_asyncio`. `_core.run_map` is faster, and ends only by itself, by its time or by Ctrl-C.
"""

from __future__ import annotations

import asyncio
import json
import queue
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from . import _coroutines, _lazy, _options, _pickling
from ._executor import Executor

if TYPE_CHECKING:
    from ._future import Future
    from ._map import PlanLike
    from ._progress import Display, Tally

Call = tuple[Any, ...]

# Chunks for each worker, so that the last ones end at about the same time.
_SHARES = 4
# Rounds of calls on one loop that travel together, for the loop to be full most of the time.
_ROUNDS = 4


class Gathering:
    """One map: `run` makes all calls and waits for them, `stop` ends it from another thread.

    `most` calls of a coroutine function may be under way in each worker process;
    None stands for a plain function.
    """

    def __init__(
        self,
        fn: Callable[..., Any],
        calls: list[Call],
        plan: PlanLike,
        workers: int | None,
        chunksize: int | None,
        timeout: float | None,
        return_errors: bool,
        shared_state: bool | None,
        terms: _options.Terms,
        display: Display | None,
        most: int | None = None,
    ) -> None:
        self._fn, self._calls, self._return_errors = fn, calls, return_errors
        self._plan: PlanLike = plan
        self._workers, self._shared_state = workers, shared_state
        self._timeout = _coroutines.seconds(timeout)
        self._chunksize, self._terms, self._most = chunksize, terms, most
        self._results: list[Any] = [None] * len(calls)
        self._failures: dict[int, BaseException] = {}
        self._under_way: dict[Future[Any], range] = {}
        self._meter = _coroutines.Meter()
        self._news = queue.SimpleQueue[Any]()
        self._work: _lazy.Work
        self._stopped = False
        self._display = display
        self._tally: Tally | None = None

    def stop(self) -> None:
        """End it: what has not begun is cancelled, what runs in worker processes is killed."""
        self._stopped = True
        self._news.put(None)

    def run(self) -> tuple[list[Any], str]:
        """The results in order, and the report's JSON.

        Raises:
            CancelledError: If it was stopped.
            TimeoutError: If the time is up.
            BaseException: What the first call that failed raised, unless exceptions are results.
        """
        began = time.monotonic()
        executor = Executor(self._workers, plan=self._plan, shared_state=self._shared_state)
        in_time = False
        try:
            if self._display is not None:
                self._display.total = len(self._calls)
                self._tally = self._display.begin_tally(executor, self._fn, self._terms)
            for future, places in self._submit(executor):
                self._under_way[future] = places
                future.add_done_callback(self._news.put)
                del future
                if self._stopped:
                    break
            while self._under_way and not self._failures:
                self._take(None if self._timeout is None else began + self._timeout - time.monotonic())
            # Calls of a coroutine function that have not begun are in worker processes already.
            in_time = self._most is None or not self._failures
            if self._failures:
                raise self._failures[min(self._failures)]
            return self._results, self._report(executor, time.monotonic() - began)
        finally:
            if self._display is not None:
                self._display.end()
            self._under_way.clear()
            self._failures.clear()
            if not in_time:
                executor.kill_workers()
            # Whoever ran out of time does not wait for what still runs on threads.
            executor.shutdown(wait=in_time or kills_all(executor), cancel_futures=True)

    def _submit(self, executor: Executor) -> Iterator[tuple[Future[Any], range]]:
        """Submit the calls, with their places in the list."""
        if self._most is not None:
            limit, retries, priority = self._terms
            size = self._chunksize or min(self._share(executor, 1), _ROUNDS * self._most) or 1
            for begin in range(0, len(self._calls), size):
                chunk = self._calls[begin : begin + size]
                arguments = (self._fn, chunk, self._most, self._return_errors, limit)
                terms = (None, retries, priority) if retries else None
                future = executor._pool.submit(_coroutines.run_chunk, arguments, None, self._fn, terms)
                yield future, range(begin, begin + len(chunk))
            return
        # A call whose exception is a result travels alone: what can't be pickled of it must not be the others' failure.
        size = 1 if self._return_errors else self._chunksize or self._share(executor, _SHARES)
        self._work = _lazy.Work(self._fn, self._calls, executor._plan, size, terms=self._terms)
        begin = 0
        while calls := self._work.take():
            yield self._work.submit(executor, calls), range(begin, begin + len(calls))
            begin += len(calls)

    def _share(self, executor: Executor, shares: int) -> int:
        workers = executor._plan.workers if executor._plan else 1
        return -(-len(self._calls) // (workers * shares)) or 1

    def _take(self, left: float | None) -> None:
        try:
            future = self._news.get(timeout=None if left is None else max(left, 0))
        except queue.Empty:
            done = len(self._calls) - sum(map(len, self._under_way.values()))
            raise _coroutines.late(done, len(self._calls), self._fn) from None
        if future is None:
            raise asyncio.CancelledError
        places = self._under_way.pop(future)
        try:
            outcome = [future.result()]
        except BaseException as error:
            for place in places:
                self._fail(place, error)
            self._count(len(places), len(places))
            return
        if self._most is not None:
            self._take_told(places, outcome.pop())
            return
        place = places.start
        try:
            for value in self._work.values(outcome):
                self._results[place] = value
                place += 1
        except BaseException as error:
            self._fail(place, error)
            self._count(place + 1 - places.start, 1)
        else:
            self._count(len(places), 0)

    def _take_told(self, places: range, told: _coroutines.Told) -> None:
        values, failures, meter = told
        self._meter.add(meter, places.start)
        self._count(meter.done, meter.failed)
        self._results[places.start : places.start + len(values)] = values
        for place, stream in failures.items():
            self._fail(places.start + place, _pickling.decode_exception(stream))

    def _count(self, done: int, failed: int) -> None:
        if self._tally is not None:
            self._tally.add(done, failed)

    def _fail(self, place: int, error: BaseException) -> None:
        if self._return_errors and isinstance(error, Exception):
            self._results[place] = error
        else:
            self._failures[place] = error

    def _report(self, executor: Executor, wall: float) -> str:
        if self._most is None or executor._plan is None:
            return executor.report().to_json()
        # What the executor measured is that of whole chunks.
        processes = executor._plan.processes
        return json.dumps(_coroutines.told(self._fn, len(self._calls), self._meter, wall, processes, self._most))


def kills_all(executor: Executor) -> bool:
    """Whether nothing can go on running after its `kill_workers`."""
    return executor._plan is not None and executor._plan.processes > 0
