"""The part of `forkright._core` that needs no measuring, in Python: the rest of the package finds it under that name.

Its signatures are those of `_core.pyi`. Left out is what only the command line and worker processes of our own use.
"""

from __future__ import annotations

import concurrent.futures
import functools
import itertools
import json
import math
import multiprocessing
import os
import pickle
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from importlib import metadata
from typing import TYPE_CHECKING, Any, NoReturn

from .. import _functions, _pickling, _plan
from .._errors import BrokenWorkers
from .._spec import Initializer
from . import EXTENSION, reason, say_once, warn

if TYPE_CHECKING:
    from .._context import Within
    from .._seeding import Seeds

try:
    __version__ = metadata.version("forkright")
except metadata.PackageNotFoundError:  # a tree of source files that nobody installed
    __version__ = "unknown"

Call = tuple[Any, ...]
# Whether a call succeeded, and its value or exception as bytes.
Outcome = tuple[bool, bytes]

# Chunks of a map for each worker process, as multiprocessing makes: fewer would leave some idle at the end.
_SHARES = 4
# What Windows lets ProcessPoolExecutor wait for.
_MOST_PROCESSES = 61 if sys.platform == "win32" else _plan.MOST_WORKERS

# The same everywhere, and no fork of a process that has threads.
spawning = multiprocessing.get_context("spawn")

_closers: weakref.WeakSet[threading.Thread] = weakref.WeakSet()


def cpu_count() -> int:
    """Cores this process may use, as far as the standard library can tell."""
    if hasattr(os, "process_cpu_count"):
        return os.process_cpu_count() or 1  # pyright: ignore[reportAttributeAccessIssue]
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def parse_command(arguments: list[str]) -> NoReturn:
    """The command line measures, so there is none: says so on standard error.

    Raises:
        SystemExit: Always; the code is 2.
    """
    from .._terminal import Trouble, complain

    hint = "`import forkright` works without it, on the standard library's pools; commands need what measures"
    complain(Trouble(reason(), hint=hint), "auto")
    raise SystemExit(2)


def close_shared(timeout: float) -> None:
    """Waits for what is still closing, however long: the standard library's own end may stumble over it."""
    for closer in list(_closers):
        closer.join()


def current_job() -> int:
    """None is told from another: a worker's state is its own for as long as it lives."""
    return 0


def release_shared(timeout: float) -> None:
    """Nothing: maps share no workers."""


def keep_workers(seconds: float) -> None:
    """Nothing: maps share no workers."""


def share(buffers: list[pickle.PickleBuffer], writable: bool) -> list[Any]:
    """Copies of the buffers: each process that gets one gets a copy of its own."""
    if writable:
        warn("what one process writes to a writable share the others do not see: nothing is shared")
    return [bytearray(buffer.raw()) if writable else bytes(buffer.raw()) for buffer in buffers]


def shared_place(obj: object) -> None:
    """Nowhere: nothing is shared."""


def prepare_by_value() -> None:
    """Nothing to prepare: the standard library starts its processes itself."""


def taken(plan: tuple[int, int] | None, workers: int | None) -> _plan.Plan:
    """The plan that is carried out where `plan` is asked for: threads for "auto", one thread a process for hybrid."""
    if plan is None:
        threads = _plan.parse("threads", workers)
        assert threads is not None
        return threads
    processes, threads_each = plan
    return _plan.Plan(processes=min(processes, _MOST_PROCESSES)) if processes else _plan.Plan(threads=threads_each)


# One call at a time


class Pool:
    """What an executor submits to: one of the standard library's executors, and the count of its calls."""

    # For one task the standard library kills no worker.
    kills = False

    def __init__(
        self,
        plan: tuple[int, int] | None,
        serial: bool,
        workers: int | None,
        prefix: str,
        initializer: Callable[..., object] | None,
        initargs: tuple[Any, ...],
        pickled_initializer: Initializer | None,
        tasks_per_worker: int | None,
        memory_per_worker: int | None,
        shared_state: bool | None,
    ) -> None:
        say_once()
        self._began = time.perf_counter()
        self._asked, self._plan = plan, taken(plan, workers)
        self._crew: concurrent.futures.Executor
        if self._plan.processes:
            # `pickled_initializer` may have a copy of the main module's globals, which tasks would not see.
            payload = by_reference((initializer, initargs), "the initializer and its arguments")
            if tasks_per_worker is not None:
                warn("worker processes are not replaced after max_tasks_per_child: ProcessPoolExecutor may hang then")
            if memory_per_worker is not None:
                warn("worker processes are not replaced after max_memory_per_child: no such thing is there")
            self._crew = ProcessPoolExecutor(self._plan.processes, spawning, _initialize, (payload,))
        elif serial:
            self._crew = _Serial(initializer, initargs)
        else:
            self._crew = ThreadPoolExecutor(self._plan.threads, prefix, initializer, initargs)
        self._calls = _Calls()
        self._lock = threading.Lock()
        self._closer: threading.Thread | None = None

    def submit(
        self,
        function: Callable[..., Any],
        arguments: Call,
        options: dict[str, Any] | None,
        calls: Callable[..., Any] | None = None,
        terms: tuple[float | None, int, int] | None = None,
    ) -> Any:
        if terms is not None and (terms[1] or terms[2]):
            warn("retries and priority are not kept: the standard library's pools run each call once, as they come")
        if self._closer is not None:
            raise RuntimeError("cannot schedule new futures after shutdown")
        role = f"the call of `{_functions.name_of(calls or function)}`"
        return self._calls.watch(self._submit(function, arguments, options or {}, role))

    def close(self, cancel: bool = False) -> None:
        if cancel:
            self._calls.cancel()
        with self._lock:
            if self._closer is None:
                self._closer = _begin_shutdown(self._crew)

    def dismiss(self, kill: bool) -> None:
        # It forgets them at its shutdown. Those that it starts after this are not ended, as before Python 3.14.
        processes = list((getattr(self._crew, "_processes", None) or {}).values())
        self.close(True)
        for process in processes:
            # Those that are gone already are passed over by `Process` itself.
            process.kill() if kill else process.terminate()

    def join(self, timeout: float | None = None) -> bool:
        assert self._closer is not None, "closed first"
        self._closer.join(timeout)
        return not self._closer.is_alive()

    def now(self, function: Callable[..., Any]) -> tuple[int, int, int]:
        return self._plan.processes, self._plan.threads, self._plan.workers

    def report(self) -> str:
        calls = self._calls
        return report(None, self._asked, self._plan, calls.submitted, calls.done, calls.failed, self._began)

    def _submit(
        self, function: Callable[..., Any], arguments: Call, options: dict[str, Any], role: str
    ) -> concurrent.futures.Future[Any]:
        if not self._plan.processes:
            return self._crew.submit(function, *arguments, **options)
        try:
            payload = by_reference((function, arguments, options), role)
        except _pickling.UnpicklableError as error:
            refused = concurrent.futures.Future[Any]()
            refused.set_exception(error)
            return refused
        return self._crew.submit(_call, payload)


def _begin_shutdown(crew: concurrent.futures.Executor, cancel: bool = False) -> threading.Thread:
    """Shut `crew` down in a thread, which is over when its processes are gone: no other shutdown tells."""
    closer = threading.Thread(target=crew.shutdown, kwargs={"cancel_futures": cancel}, name="forkright-closer")
    closer.start()
    _closers.add(closer)
    return closer


class _Calls:
    """Counts an executor's calls and knows those under way. Futures refer to it, and so not to the executor."""

    def __init__(self) -> None:
        self.submitted = self.done = self.failed = 0
        self._under_way: set[concurrent.futures.Future[Any]] = set()
        self._lock = threading.Lock()

    def watch(self, future: concurrent.futures.Future[Any]) -> concurrent.futures.Future[Any]:
        with self._lock:
            self.submitted += 1
            self._under_way.add(future)
        future.add_done_callback(self._end)
        return future

    def cancel(self) -> None:
        """Cancel what has not started."""
        with self._lock:
            under_way = list(self._under_way)
        for future in under_way:
            future.cancel()

    def _end(self, future: concurrent.futures.Future[Any]) -> None:
        with self._lock:
            self._under_way.discard(future)
            self.done += not future.cancelled()
            self.failed += not future.cancelled() and future.exception() is not None


class _Serial(concurrent.futures.Executor):
    """Makes each call at once, in the thread that submits it."""

    def __init__(self, initializer: Callable[..., object] | None, initargs: tuple[Any, ...]) -> None:
        self._initializer = initializer
        self._initargs = initargs
        self._broken: BaseException | None = None

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> concurrent.futures.Future[Any]:
        future = concurrent.futures.Future[Any]()
        future.set_running_or_notify_cancel()
        try:
            self._initialize()
            future.set_result(fn(*args, **kwargs))
        except BaseException as error:
            future.set_exception(error)
        return future

    def _initialize(self) -> None:
        initializer, self._initializer = self._initializer, None
        try:
            if initializer is not None:
                initializer(*self._initargs)
        except BaseException as error:
            self._broken = error
        if self._broken is not None:
            raise BrokenWorkers(f"the initializer failed: {self._broken!r}") from self._broken


# Maps


def run_map(
    function: Callable[..., Any],
    name: str,
    items: range | list[Any],
    star: bool,
    plan: tuple[int, int] | None,
    workers: int | None,
    chunksize: int | None,
    timeout: float | None,
    return_errors: bool,
    shared_state: bool | None,
    seeds: Seeds | None,
    glimpse: Glimpse | None,
    around: Within | None,
) -> tuple[list[Any], MapReport]:
    """Runs a map to its end; its results and its report.

    Time and failures are seen between calls, by every worker thread and, as for time, by worker processes; those
    finish their chunks when a call of another process fails.
    """
    say_once()
    began, now = time.perf_counter(), taken(plan, workers)
    function = around or function
    if seeds is not None:
        calls = items if star else [(item,) for item in items]
        function, items, star = functools.partial(seeds.call, function), list(enumerate(calls)), True
    batch = _Batch(function, name, items, star, return_errors, timeout)
    if glimpse is not None:
        glimpse.begin(batch, now)
    if now.processes:
        _on_processes(batch, now.processes, chunksize)
    elif now.threads == 1:
        batch.work()
    else:
        _on_threads(batch, now.threads)
    results = batch.results()
    return results, MapReport(report(name, plan, now, len(items), batch.done, batch.failures, began))


class Glimpse:
    """A map seen from outside, at any moment."""

    def __init__(self) -> None:
        self._batch: _Batch | None = None
        self._plan = _plan.Plan()

    def begin(self, batch: _Batch, plan: _plan.Plan) -> None:
        self._batch, self._plan = batch, plan

    def look(self) -> tuple[tuple[int, int], tuple[int, int, int]]:
        counts = (0, 0) if self._batch is None else (self._batch.done, self._batch.failures)
        return counts, (self._plan.processes, self._plan.threads, self._plan.workers)


class MapReport:
    """The report of a map that is over."""

    def __init__(self, text: str) -> None:
        self._text = text

    def to_json(self) -> str:
        return self._text


class _Batch:
    """The items of a map and what became of them. Threads take items from it until none is left."""

    def __init__(
        self,
        function: Callable[..., Any],
        name: str,
        items: range | list[Any],
        star: bool,
        return_errors: bool,
        timeout: float | None,
    ) -> None:
        if timeout is not None and math.isnan(timeout):
            raise ValueError("timeout is not a number")
        self.function = function
        self.name = name
        self.return_errors = return_errors
        self.done = self.failures = 0
        # By the clock that other processes have too.
        self.until = None if timeout is None else time.time() + timeout
        self._items = items
        self._star = star
        self._results: list[Any] = [None] * len(items)
        self._first_failed = len(items)
        self._next = iter(range(len(items)))
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._items)

    def arguments(self, index: int) -> Call:
        """Those of one call."""
        item: Any = self._items[index]
        return item if self._star else (item,)

    def work(self) -> None:
        """Make calls until there is none left."""
        while (index := self._take()) is not None:
            try:
                value = self.function(*self.arguments(index))
            except BaseException as error:
                self.settle(index, False, error)
            else:
                self.settle(index, True, value)

    def settle(self, index: int, succeeded: bool, value: Any) -> bool:
        """Keep what a call gave; whether the map goes on."""
        with self._lock:
            self.done += 1
            self.failures += not succeeded
            stops = not succeeded and not (self.return_errors and isinstance(value, Exception))
            if stops:
                self._next = iter(())
            # Of failures that end the map, only the first in the order of the items is of use.
            if not stops or index < self._first_failed:
                self._results[index] = value
            if stops:
                self._first_failed = min(index, self._first_failed)
            return not stops

    def expire(self) -> None:
        """Start nothing more: the time is up, or nobody waits any longer."""
        with self._lock:
            self._next = iter(())

    def left(self) -> float | None:
        """Seconds that are left."""
        return None if self.until is None else max(self.until - time.time(), 0)

    def results(self) -> list[Any]:
        """The results in order.

        Raises:
            TimeoutError: If the time was up before all calls were done.
            BaseException: What the first call that failed raised, unless exceptions are results.
        """
        if self._first_failed < len(self):
            raise self._results[self._first_failed]
        if self.done < len(self):
            raise TimeoutError(f"{self.done} of {len(self)} tasks of `{self.name}` were done when the time was up")
        return self._results

    def _take(self) -> int | None:
        if self.until is not None and time.time() >= self.until:
            self.expire()
        with self._lock:
            return next(self._next, None)


def _on_threads(batch: _Batch, threads: int) -> None:
    count = min(threads, len(batch)) or 1
    pool = ThreadPoolExecutor(count, "forkright-map")
    is_over = False
    try:
        workers = [pool.submit(batch.work) for _ in range(count)]
        is_over = not concurrent.futures.wait(workers, batch.left()).not_done
    finally:
        # Whoever ran out of time does not wait for the calls that run.
        if not is_over:
            batch.expire()
        pool.shutdown(wait=is_over)


def _on_processes(batch: _Batch, processes: int, chunksize: int | None) -> None:
    size = chunksize or -(-len(batch) // (processes * _SHARES)) or 1
    function = by_reference(batch.function, f"the function `{batch.name}`")
    pool = ProcessPoolExecutor(min(processes, -(-len(batch) // size)) or 1, spawning)
    is_over = False
    try:
        chunks = {
            pool.submit(
                _run_chunk, function, batch.name, [stream for _, stream in calls], batch.until, batch.return_errors
            ): [index for index, _ in calls]
            for calls in _chunks(batch, size)
        }
        for future in concurrent.futures.as_completed(chunks, batch.left()):
            if not future.cancelled() and not _settled(batch, chunks[future], future.result()):
                for other in chunks:
                    other.cancel()
        is_over = True
    except TimeoutError:
        batch.expire()
    except BrokenProcessPool as error:
        raise BrokenWorkers(
            f"a worker process died during the map of `{batch.name}`, in which call the standard library can't tell; "
            'if none of them began: does the script have its `if __name__ == "__main__":`?'
        ) from error
    finally:
        closer = _begin_shutdown(pool, cancel=True)
        if is_over:
            closer.join()


def _settled(batch: _Batch, chunk: list[int], outcomes: list[Outcome]) -> bool:
    """Keep what the calls of a chunk gave, of which the last may not have been made; whether the map goes on."""
    role = f"the result of `{batch.name}`"
    goes_on = [batch.settle(index, *decoded(told, role)) for index, told in zip(chunk, outcomes, strict=False)]
    return all(goes_on) and len(outcomes) == len(chunk)


def _chunks(batch: _Batch, size: int) -> Iterator[list[tuple[int, bytes]]]:
    """The calls with their arguments as bytes, so many at a time; one whose arguments can't travel has failed."""
    calls = _travelling(batch)
    return iter(lambda: list(itertools.islice(calls, size)), [])


def _travelling(batch: _Batch) -> Iterator[tuple[int, bytes]]:
    for index in range(len(batch)):
        try:
            yield index, by_reference(batch.arguments(index), f"an argument of `{batch.name}`")
        except _pickling.UnpicklableError as error:
            if not batch.settle(index, False, error):
                return


def report(
    function: str | None,
    asked: tuple[int, int] | None,
    plan: _plan.Plan,
    tasks: int,
    done: int,
    failed: int,
    began: float,
) -> str:
    """What ran, as JSON of the same form as the engine's; what it would have measured is not there."""
    if asked is None:
        why = f"{plan}: nothing was measured or chosen"
    elif plan == asked:
        why = f"{plan}, as asked; nothing was measured"
    else:
        why = f"{plan} instead of {_plan.Plan(*asked)}; nothing was measured"
    return json.dumps(
        {
            "form": 3,
            "why": f"{why}, as `{EXTENSION}` can't be imported",
            "function": function,
            "chosen": False,
            "plan": {"processes": plan.processes, "threads": plan.threads},
            "tasks": tasks,
            "done": done,
            "failed": failed,
            "wall": time.perf_counter() - began,
        }
    )


# On the way to another process and back


def by_reference(obj: object, role: str) -> bytes:
    """Pickle `obj`, functions by their names, as the standard library does; `role` is its name in errors.

    Raises:
        UnpicklableError: If it can't be pickled so.
    """
    try:
        return pickle.dumps(obj, 5)
    except Exception as error:
        raise unpicklable(error, role) from error


def unpicklable(error: Exception, role: str) -> _pickling.UnpicklableError:
    """The error that says that `role` can't be pickled because of `error`, and what to do."""
    return _pickling.UnpicklableError(
        f"{role} can't be sent to another process: {error}; without `{EXTENSION}` what goes there is pickled plainly, "
        'functions by their names in their modules; keep the rest in this process with plan="threads"'
    )


def encoded(value: object, role: str) -> Outcome:
    """In a worker process: the outcome of a call that returned `value`."""
    try:
        return True, _pickling.encode(value, None, role)
    except Exception as error:
        return failed(error)


def failed(error: BaseException) -> Outcome:
    """In a worker process: the outcome of a call that raised `error`."""
    return False, _pickling.encode_exception(error)


def decoded(outcome: Outcome, role: str) -> tuple[bool, Any]:
    """Whether a call succeeded, and its value or its exception."""
    succeeded, stream = outcome
    if not succeeded:
        return False, _pickling.decode_exception(stream)
    try:
        return True, _pickling.decode(stream)
    except Exception as error:
        return False, _pickling.undecodable(error, role)


def _rebuilt(stream: bytes, role: str) -> Any:
    try:
        return _pickling.decode(stream)
    except Exception as error:
        raise _pickling.undecodable(error, role) from error


def _initialize(payload: bytes) -> None:
    initializer, arguments = _rebuilt(payload, "the initializer and its arguments")
    if initializer is not None:
        initializer(*arguments)


def _call(payload: bytes) -> Any:
    function, arguments, options = _rebuilt(payload, "the call")
    return function(*arguments, **options)


def _run_chunk(
    function: bytes, name: str, calls: Iterable[bytes], until: float | None, return_errors: bool
) -> list[Outcome]:
    """Make the calls in turn until the time is up or one fails that ends the map; the outcomes of those made."""
    call = _rebuilt(function, f"the function `{name}`")
    outcomes: list[Outcome] = []
    for stream in calls:
        if until is not None and time.time() >= until:
            break
        try:
            value = call(*_rebuilt(stream, f"an argument of `{name}`"))
        except BaseException as error:
            outcomes.append(failed(error))
            if not return_errors:
                break
        else:
            outcomes.append(encoded(value, f"the result of `{name}`"))
    return outcomes
