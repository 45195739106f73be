"""Calls of coroutine functions: many at a time on one event loop, bounded, and where their time goes.

Called by `_map` and `_asyncio`, and in worker processes, each of which has a loop of its own. Without it a map of a
coroutine function would give coroutines that nobody awaits.

A call counts as input and output while it is suspended in an ``await``: it waits for something, or for its turn on the
loop. The steps between are measured one by one, since the longest is the time for which no other call went on.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import json
import threading
import time
import types
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from . import _functions, _pickling, _plan
from ._core import cpu_count

if TYPE_CHECKING:
    from ._map import PlanLike
    from ._options import Terms
    from ._progress import Display, Seen

T = TypeVar("T")
Call = tuple[Any, ...]

# Calls under way on one loop where nobody says otherwise: as many as aiohttp and httpx open connections at most, and
# far from the 1024 descriptors that a process may usually have.
AT_ONCE = 100
# Seconds without an await from which a call is said to hog its loop: from there on asyncio's debug mode tells, too.
HOG = 0.1


def parse(plan: object, workers: int | None) -> tuple[int, int]:
    """Worker processes, or 0 for a loop in this one, and the calls under way on one loop, at most.

    A plan's threads are calls at a time where it names more than one, and so is its being serial. The names "threads"
    and "hybrid" stand for sizes that suit threads, of which calls here need none.
    """
    fixed = _plan.parse(plan, workers)
    if fixed is None or plan == "threads":
        return 0, workers or AT_ONCE
    if fixed == _plan.Plan():
        return 0, 1
    if isinstance(plan, str):
        fixed = _plan.Plan(processes=min(fixed.processes, cpu_count()))
    if fixed.threads > 1:
        return fixed
    return fixed.processes, max(1, workers // fixed.processes) if workers else AT_ONCE


class Meter:
    """What the calls of one function did with their event loop. Times are in seconds."""

    __slots__ = ("busy", "cpu", "done", "failed", "hog", "most", "steps", "under_way")

    def __init__(self) -> None:
        self.done = self.failed = self.under_way = self.most = 0
        # From begin to end of the calls; of that, in their steps; of that, computing.
        self.busy = self.steps = self.cpu = 0.0
        # The longest step: how long, how much of it computing, and the item.
        self.hog = (0.0, 0.0, 0)

    def add(self, other: Meter, first: int) -> None:
        """Count what another process measured of a chunk that begins with the item `first`."""
        for name in ("done", "failed", "busy", "steps", "cpu"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        took, computed, item = other.hog
        self.most = max(self.most, other.most)
        self.hog = max(self.hog, (took, computed, first + item))

    def look(self) -> Seen:
        """How far the calls of one loop in this process are."""
        from ._progress import Seen

        return Seen(self.done, self.failed, "event loop", self.under_way)

    async def call(self, fn: Callable[..., Awaitable[T]], limit: float | None, item: int, arguments: Call) -> T:
        """``await fn(*arguments)``, measured, for `limit` seconds at most.

        Raises:
            TaskTimeoutError: If it takes longer; it is cancelled then.
        """
        began = time.perf_counter()
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            if limit is None:
                value = await self._drive(item, fn, arguments)
            else:
                value = await _limited(self._drive(item, fn, arguments), fn, limit)
        except asyncio.CancelledError:
            raise
        except BaseException:
            self.done += 1
            self.failed += 1
            raise
        else:
            self.done += 1
            return value
        finally:
            self.under_way -= 1
            self.busy += time.perf_counter() - began

    @types.coroutine
    def _drive(self, item: int, fn: Callable[..., Awaitable[T]], arguments: Call) -> Generator[Any, Any, T]:
        """Run the call step by step, as ``yield from`` would."""
        steps: Any = None
        value: Any = None
        failure: BaseException | None = None
        while True:
            began, computed = time.perf_counter(), time.thread_time()
            try:
                if steps is None:
                    steps = fn(*arguments).__await__()
                wanted = steps.send(value) if failure is None else steps.throw(failure)
            except StopIteration as end:
                return end.value  # type: ignore[no-any-return]
            finally:
                # What is thrown in has a traceback, which has this frame.
                value = failure = None
                self._step(time.perf_counter() - began, time.thread_time() - computed, item)
            try:
                value = yield wanted
            except GeneratorExit:
                steps.close()
                raise
            except BaseException as error:
                failure = error

    def _step(self, took: float, computed: float, item: int) -> None:
        self.steps += took
        self.cpu += computed
        if took > self.hog[0]:
            self.hog = (took, computed, item)


async def _limited(call: Awaitable[T], fn: Callable[..., Any], limit: float) -> T:
    clock = asyncio.timeout(limit)
    try:
        async with clock:
            return await call
    except TimeoutError:
        if not clock.expired():
            raise
        from ._errors import TaskTimeoutError

        raise TaskTimeoutError(_functions.name_of(fn), limit, -1) from None


async def run_all(
    call: Callable[[int, Call], Coroutine[Any, Any, T]],
    calls: Sequence[Call],
    most: int,
    return_errors: bool,
    fn: Callable[..., Any],
) -> list[Any]:
    """The results of the calls of `fn` in order, with at most `most` of them under way.

    Whatever ends it early, a failure or being cancelled, cancels the calls under way and waits for their end.

    Raises:
        BaseException: What the first call that failed raised, unless exceptions are results.
    """
    loop = asyncio.get_running_loop()
    results: list[Any] = [None] * len(calls)
    failures: dict[int, BaseException] = {}
    running: dict[asyncio.Task[T], int] = {}
    news = asyncio.Event()

    def end(task: asyncio.Task[T]) -> None:
        item = running.pop(task)
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        if error is None:
            results[item] = task.result()
        elif return_errors and isinstance(error, Exception):
            results[item] = error
        else:
            failures[item] = error
        news.set()

    async def wait_while(most: int) -> None:
        while len(running) > most and not failures:
            news.clear()
            await news.wait()

    try:
        for item, arguments in enumerate(calls):
            await wait_while(most - 1)
            if failures:
                break
            # A task of its own, so that no call sees another's context variables.
            task = loop.create_task(call(item, arguments), context=context_for(fn))
            running[task] = item
            task.add_done_callback(end)
        await wait_while(0)
        if failures:
            raise failures[min(failures)]
        return results
    finally:
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running)
        failures.clear()


def context_for(fn: Callable[..., Any]) -> contextvars.Context | None:
    """What a call of `fn` runs in; None stands for a copy of what is current."""
    bound = _functions.bound_to_context(fn)
    return None if bound is None else bound.copy()


async def run_here(
    fn: Callable[..., Awaitable[Any]],
    calls: Sequence[Call],
    most: int,
    timeout: float | None,
    return_errors: bool,
    limit: float | None,
    display: Display | None,
) -> tuple[list[Any], str]:
    """A map on the running loop: its results and the report's JSON. Whoever calls it ends the display.

    Raises:
        TimeoutError: If `timeout` seconds are not enough.
    """
    meter, began = Meter(), time.perf_counter()
    if display is not None:
        display.total = len(calls)
        display.begin(meter.look)
    clock = asyncio.timeout(seconds(timeout))
    try:
        async with clock:
            call = functools.partial(meter.call, fn, limit)
            results = await run_all(call, calls, most, return_errors, fn)
    except TimeoutError:
        if not clock.expired():
            raise
        raise late(meter.done, len(calls), fn) from None
    wall = time.perf_counter() - began
    return results, json.dumps(told(fn, len(calls), meter, wall, 0, most))


def run_map(
    fn: Callable[..., Any],
    items: Iterable[Any],
    star: bool,
    plan: PlanLike,
    workers: int | None,
    chunksize: int | None,
    timeout: float | None,
    return_errors: bool,
    shared_state: bool | None,
    terms: Terms,
    display: Display | None,
) -> tuple[list[Any], str]:
    """A map from code that is no coroutine: its results and the report's JSON."""
    calls = list(items) if star else [(item,) for item in items]
    processes, most = parse(plan, workers)
    if not processes:
        try:
            return run(lambda: run_here(fn, calls, most, timeout, return_errors, terms[0], display))
        finally:
            if display is not None:
                display.end()
    from ._gathering import Gathering

    fixed = _plan.Plan(processes=processes)
    return Gathering(
        fn, calls, fixed, None, chunksize, timeout, return_errors, shared_state, terms, display, most
    ).run()


def seconds(timeout: float | None) -> float | None:
    """A time for a whole map, checked.

    Raises:
        ValueError, TypeError, OverflowError: If it is none.
    """
    if timeout is None:
        return None
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)):
        raise TypeError(f"timeout must be a number of seconds or None, not {timeout!r}")
    if timeout != timeout:
        raise ValueError("timeout is not a number")
    return min(float(timeout), threading.TIMEOUT_MAX)


def late(done: int, tasks: int, fn: Callable[..., Any]) -> TimeoutError:
    """What a map raises whose time is up."""
    return TimeoutError(f"{done} of {tasks} tasks of `{_functions.name_of(fn)}` were done when the time was up")


def run(main: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine to its end from code that is none: in this thread, or beside a loop that runs here already."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        with asyncio.Runner() as runner:
            return runner.run(main())
    return _run_beside(main)


def _run_beside(main: Callable[[], Coroutine[Any, Any, T]]) -> T:
    outcome: list[tuple[bool, Any]] = []
    begun = threading.Event()
    running: list[tuple[asyncio.AbstractEventLoop, asyncio.Task[T]]] = []

    async def body() -> T:
        task = asyncio.current_task()
        assert task is not None
        running.append((asyncio.get_running_loop(), task))
        begun.set()
        return await main()

    def work() -> None:
        try:
            outcome.append((True, asyncio.run(body())))
        except BaseException as error:
            outcome.append((False, error))

    thread = threading.Thread(target=contextvars.copy_context().run, args=(work,), name="forkright-loop")
    thread.start()
    try:
        thread.join()
    except BaseException:
        # Ctrl-C: the calls end as they would on a loop of this thread's.
        begun.wait()
        loop, task = running.pop()
        if thread.is_alive():
            loop.call_soon_threadsafe(task.cancel)
        thread.join()
        raise
    value: T = value_of(outcome.pop())
    return value


def value_of(outcome: tuple[bool, Any]) -> Any:
    """What a call in another thread returned, or what it raised."""
    succeeded, value = outcome
    if succeeded:
        return value
    del outcome
    try:
        raise value
    finally:
        del value


# Values in order, and by their places the calls that failed, as bytes; where one failed and ended the others, it alone.
Told = tuple[list[Any], dict[int, bytes], Meter]


def run_chunk(fn: Callable[..., Any], calls: list[Call], most: int, return_errors: bool, limit: float | None) -> Told:
    """In a worker process: make the calls, `most` at a time, on a loop of their own."""
    meter = Meter()
    failures: dict[int, bytes] = {}

    async def call(item: int, arguments: Call) -> Any:
        try:
            return await meter.call(fn, limit, item, arguments)
        except asyncio.CancelledError:
            raise  # of those that the first failure cancels nobody wants to hear
        except BaseException as error:
            failures.setdefault(item, _pickling.encode_exception(error))
            raise

    try:
        values = asyncio.run(run_all(call, calls, most, return_errors, fn))
    except BaseException:
        if not failures:
            raise
        # Later ones may be of calls that did not like being cancelled.
        first = next(iter(failures))
        return [], {first: failures[first]}, meter
    if return_errors:
        role = f"the result of `{_functions.name_of(fn)}`"
        for item, value in enumerate(values):
            if item not in failures:
                try:
                    _pickling.encode(value, [], role)
                    continue
                except _pickling.UnpicklableError as error:
                    failures[item] = _pickling.encode_exception(error)
            values[item] = None
    return values, failures, meter


def unpack(values: list[Any], failures: dict[int, bytes], _: Meter) -> Iterator[Any]:
    """The values of a chunk in order, up to the first call that failed; then what that raised."""
    first = min(failures, default=len(values))
    yield from values[:first]
    if failures:
        raise _pickling.decode_exception(failures[first])


def told(fn: Callable[..., Any], tasks: int, meter: Meter, wall: float, processes: int, most: int) -> dict[str, Any]:
    """A report's data."""
    took, computed, item = meter.hog
    waits = max(meter.busy - meter.steps, 0.0)
    name = _functions.name_of(fn)
    hog = {"function": name, "item": item, "seconds": took, "cpu": computed} if took >= HOG else None

    def part(seconds: float) -> dict[str, float]:
        share = seconds / meter.busy if meter.busy else 0.0
        return {"seconds": seconds, "share": share, "error": 0.0, "samples": meter.done}

    where = f"{processes} worker processes, each with an event loop" if processes else "an event loop in this process"
    return {
        "form": 3,
        "why": f"{where} and up to {most} calls at a time, as `{name}` is a coroutine function",
        "function": name,
        "chosen": False,
        "plan": {"processes": processes, "threads": 1},
        "tasks": tasks,
        "done": meter.done,
        "failed": meter.failed,
        "wall": wall,
        "cpu": meter.cpu,
        "busy": meter.busy,
        "reading": {"stands_for": meter.busy, "io": part(waits), "loop": part(min(meter.steps, meter.busy))},
        "loop": {"at_once": most, "most": meter.most, "steps": meter.steps, "hog": hog},
    }
