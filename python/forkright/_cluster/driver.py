"""A map on a cluster whose items are all known: chunks of a size that follows what was measured, a bounded number out.

Called by `_map`, and by `_asyncio` in a thread. Maps that are read lazily go by `_lazy`, as everywhere.
"""

from __future__ import annotations

import asyncio
import json
import queue
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .. import _coroutines, _functions, _options
from .._errors import WorkerDied
from .._pickling import UnpicklableError
from .._progress import Seen
from . import chunk, plan_of
from .pool import Function, Pool

if TYPE_CHECKING:
    from .._future import Future
    from .._progress import Display
    from .._seeding import Seeds
    from . import Call, Cluster

# Seconds after which a cluster is asked again how many workers it has: it may grow while they compute.
_NEWS_AFTER = 1.0


class Driver:
    """One map: `run` makes all calls and waits for them, `stop` ends it from another thread."""

    def __init__(
        self,
        cluster: Cluster,
        fn: Callable[..., Any],
        calls: list[Call],
        workers: int | None,
        chunksize: int | None,
        timeout: float | None,
        return_errors: bool,
        terms: _options.Terms,
        seeds: Seeds | None,
        display: Display | None,
    ) -> None:
        self._fn, self._calls, self._seeds, self._return_errors = fn, calls, seeds, return_errors
        self._timeout = _coroutines.seconds(timeout)
        self._chunksize, self._retries = chunksize, terms[1]
        self._plan = plan_of(cluster, workers)
        self._pool = Pool(cluster, self._plan, workers)
        self._workers, self._asked = self._plan.processes, time.monotonic()
        self._results: list[Any] = [None] * len(calls)
        self._failures: dict[int, BaseException] = {}
        self._under_way: dict[Future[Any], range] = {}
        self._news = queue.SimpleQueue[Any]()
        # Items that have not been sent, those that go once more by themselves, and those under which a worker died,
        # with the runs that they have left.
        self._left = range(len(calls))
        self._single: list[int] = []
        self._suspects: list[tuple[int, int]] = []
        self._done = self._failed = self._retried = 0
        self._stopped = False
        self._display = display

    def stop(self) -> None:
        """End it: what the cluster has not begun never will."""
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
        if self._display is not None:
            self._display.total = len(self._calls)
            self._display.begin(self._look)
        try:
            function = self._pool.put(self._fn, self._seeds)
            while not (self._failures or self._stopped):
                self._send(function)
                if not self._under_way:
                    break
                self._take(None if self._timeout is None else began + self._timeout - time.monotonic())
            if self._stopped:
                raise asyncio.CancelledError
            if self._failures:
                raise self._failures[min(self._failures)]
            name = _functions.name_of(self._fn)
            told = self._pool.meter.told(name, self._pool.cluster.name, self._plan, time.monotonic() - began)
            # The pool counts what was sent again once more.
            counts = {"tasks": len(self._calls), "done": self._done, "failed": self._failed}
            told["cluster"]["retried"] = self._retried
            return self._results, json.dumps(told | counts)
        finally:
            self._failures.clear()
            self._under_way.clear()
            self._pool.close(True)
            self._pool.join()
            if self._display is not None:
                self._display.end()

    def _look(self) -> Seen:
        return Seen(self._done, self._failed, self._plan.kind, min(self._workers, len(self._calls)))

    def _send(self, function: Function) -> None:
        """Keep the workers busy: each has one chunk, and one is there when that ends."""
        now = time.monotonic()
        if now > self._asked + _NEWS_AFTER:
            self._workers, self._asked = self._pool.workers(), now
        most = chunk.most_out(self._workers)
        while len(self._under_way) < most and (places := self._next()):
            calls: list[tuple[Call, dict[str, Any]]] = [(call, {}) for call in self._calls[places.start : places.stop]]
            future = self._pool.submit_chunk(function, calls, places.start, self._return_errors)
            self._under_way[future] = places
            future.add_done_callback(self._news.put)

    def _next(self) -> range:
        """The next items."""
        if self._single:
            place = self._single.pop()
        elif self._left:
            meter = self._pool.meter
            size = self._chunksize or chunk.size(len(self._left), self._workers, meter.seconds, meter.made, meter.hop)
            places, self._left = self._left[:size], self._left[size:]
            return places
        elif self._suspects and not self._under_way:
            # Alone: what kills this worker must not be held against others, as Dask does with all that a worker has.
            place, self._retries = self._suspects.pop()
            self._retried += 1
        else:
            return range(0)
        return range(place, place + 1)

    def _take(self, left: float | None) -> None:
        """Wait for a chunk and settle its items."""
        try:
            future = self._news.get(timeout=None if left is None else max(left, 0))
        except queue.Empty:
            raise _coroutines.late(self._done, len(self._calls), self._fn) from None
        if future is None:
            return
        places = self._under_way.pop(future)
        try:
            values, failures = future.result()
        except BaseException as error:
            if isinstance(error, UnpicklableError) and len(places) > 1:
                self._single += reversed(places)  # it was not begun
                return
            if isinstance(error, WorkerDied) and self._retries > 0:
                self._suspects += [(place, self._retries - 1) for place in reversed(places)]
                return
            values, failures = [None] * len(places), dict.fromkeys(range(len(places)), error)
        self._results[places.start : places.start + len(values)] = values
        failure: Any
        for place, failure in failures.items():
            if self._return_errors and isinstance(failure, Exception):
                self._results[places.start + place] = failure
            else:
                self._failures[places.start + place] = failure
        self._done += len(values)
        self._failed += len(failures)
