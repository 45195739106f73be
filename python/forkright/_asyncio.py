"""forkright in asyncio programs: `amap`, `aimap`, and what ``await future`` does.

Calls of plain functions go to an executor's workers; those of coroutine functions become tasks of the running loop,
unless the plan names processes. Without it a program would have to spare a thread of its own for each map, and could
end none.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import sys
import threading
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Coroutine, Generator, Iterable
from typing import TYPE_CHECKING, Any, Literal, TypeVar, overload

from . import _coroutines, _gathering, _lazy, _map, _options, _plan
from ._executor import Executor

if TYPE_CHECKING:
    from typing import Unpack

    from ._context import Contextual
    from ._map import EagerOptions, IMapOptions, MapOptions, OnError, PlanLike, ProgressLike
    from ._progress import Display

A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")
D = TypeVar("D")
E = TypeVar("E")
R = TypeVar("R")
T = TypeVar("T")
Call = tuple[Any, ...]
Source = Iterable[A] | AsyncIterable[A]

# Calls of a coroutine function under way or not taken, for each that may be under way, so that a slow one does not hold
# up those behind it.
_AHEAD = 4


@overload
async def amap(
    fn: Callable[[A], Coroutine[Any, Any, R]],
    a: Iterable[A],
    /,
    *,
    on_error: Literal["return"],
    **options: Unpack[EagerOptions],
) -> list[R | Exception]: ...
@overload
async def amap(
    fn: Callable[..., Coroutine[Any, Any, R]],
    a: Iterable[Any],
    b: Iterable[Any],
    /,
    *iterables: Iterable[Any],
    on_error: Literal["return"],
    **options: Unpack[EagerOptions],
) -> list[R | Exception]: ...
@overload
async def amap(
    fn: Callable[[A], R], a: Iterable[A], /, *, on_error: Literal["return"], **options: Unpack[EagerOptions]
) -> list[R | Exception]: ...
@overload
async def amap(
    fn: Callable[[A, B], R],
    a: Iterable[A],
    b: Iterable[B],
    /,
    *,
    on_error: Literal["return"],
    **options: Unpack[EagerOptions],
) -> list[R | Exception]: ...
@overload
async def amap(
    fn: Callable[..., R],
    a: Iterable[Any],
    b: Iterable[Any],
    c: Iterable[Any],
    /,
    *iterables: Iterable[Any],
    on_error: Literal["return"],
    **options: Unpack[EagerOptions],
) -> list[R | Exception]: ...
@overload
async def amap(
    fn: Callable[[A], Coroutine[Any, Any, R]], a: Iterable[A], /, **options: Unpack[MapOptions]
) -> list[R]: ...
@overload
async def amap(
    fn: Callable[[A, B], Coroutine[Any, Any, R]], a: Iterable[A], b: Iterable[B], /, **options: Unpack[MapOptions]
) -> list[R]: ...
@overload
async def amap(
    fn: Callable[[A, B, C], Coroutine[Any, Any, R]],
    a: Iterable[A],
    b: Iterable[B],
    c: Iterable[C],
    /,
    **options: Unpack[MapOptions],
) -> list[R]: ...
@overload
async def amap(
    fn: Callable[..., Coroutine[Any, Any, R]],
    a: Iterable[Any],
    b: Iterable[Any],
    c: Iterable[Any],
    d: Iterable[Any],
    /,
    *iterables: Iterable[Any],
    **options: Unpack[MapOptions],
) -> list[R]: ...
@overload
async def amap(fn: Callable[[A], R], a: Iterable[A], /, **options: Unpack[MapOptions]) -> list[R]: ...
@overload
async def amap(
    fn: Callable[[A, B], R], a: Iterable[A], b: Iterable[B], /, **options: Unpack[MapOptions]
) -> list[R]: ...
@overload
async def amap(
    fn: Callable[[A, B, C], R], a: Iterable[A], b: Iterable[B], c: Iterable[C], /, **options: Unpack[MapOptions]
) -> list[R]: ...
@overload
async def amap(
    fn: Callable[[A, B, C, D], R],
    a: Iterable[A],
    b: Iterable[B],
    c: Iterable[C],
    d: Iterable[D],
    /,
    **options: Unpack[MapOptions],
) -> list[R]: ...
@overload
async def amap(
    fn: Callable[[A, B, C, D, E], R],
    a: Iterable[A],
    b: Iterable[B],
    c: Iterable[C],
    d: Iterable[D],
    e: Iterable[E],
    /,
    **options: Unpack[MapOptions],
) -> list[R]: ...
@overload
async def amap(
    fn: Callable[..., R],
    a: Iterable[Any],
    b: Iterable[Any],
    c: Iterable[Any],
    d: Iterable[Any],
    e: Iterable[Any],
    f: Iterable[Any],
    /,
    *iterables: Iterable[Any],
    **options: Unpack[MapOptions],
) -> list[R]: ...
async def amap(
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
    progress: ProgressLike = False,
    context: Contextual | None = None,
    cluster: Any = None,
) -> list[Any]:
    """As `forkright.map`, awaited: the event loop goes on meanwhile.

    These two lines give the same list; the second lets other tasks of the loop run::

        results = forkright.map(fn, xs)
        results = await forkright.amap(fn, xs)

    Plain functions never run in the loop's thread: ``"serial"`` is one other thread. Calls of a coroutine function run
    on the running loop, 100 at a time or ``workers`` if given, each as a task of its own; a plan with processes gives
    each a loop of its own. See docs/asyncio.md.

    If the awaiting task is cancelled, so is what has not begun, and coroutines on this loop; what runs in worker
    processes is killed, as by `Future.kill`, and under a plan with processes gone before the cancellation goes on. What
    runs on a thread is left to itself. The same happens when ``timeout`` is over.

    Raises:
        RuntimeError: If no asyncio loop runs.
        TimeoutError, UnpicklableError, WorkerDied, ValueError, TypeError: As `forkright.map`.
    """
    asyncio.get_running_loop()
    if not iterables:
        raise TypeError("amap() needs at least one iterable")
    _map.check(fn, plan, workers, chunksize, on_error, shared_state)
    fn = _map.within(fn, context, cluster)
    terms = _options.parse(task_timeout, retries)
    display = _map.display_of(progress)
    calls = list(zip(*iterables))  # noqa: B905 - the shortest ends it, as in map
    return_errors = on_error == "return"
    if cluster is not None:
        from . import _cluster

        driver = await _in_thread(
            lambda: _cluster.driver_of(
                cluster, fn, calls, plan, workers, chunksize, timeout, return_errors, shared_state, terms, None, display
            )
        )
        results, report = await _in_thread(driver.run, driver.stop)
        _map.keep(report)
        return results
    most = None
    if _map.is_coroutine_function(fn):
        processes, most = _coroutines.parse(plan, workers)
        if not processes:
            try:
                results, report = await _coroutines.run_here(fn, calls, most, timeout, return_errors, terms[0], display)
            finally:
                if display is not None:
                    await _in_thread(display.end)
            _map.keep(report)
            return results
        plan, workers = _plan.Plan(processes=processes), None
    else:
        plan, workers = _beside_the_loop(plan, workers)
    gathering = _gathering.Gathering(
        fn, calls, plan, workers, chunksize, timeout, return_errors, shared_state, terms, display, most
    )
    results, report = await _in_thread(gathering.run, gathering.stop)
    _map.keep(report)
    return results


@overload
def aimap(
    fn: Callable[[A], Coroutine[Any, Any, R]], a: Source[A], /, **options: Unpack[IMapOptions]
) -> AsyncGenerator[R, None]: ...
@overload
def aimap(
    fn: Callable[[A, B], Coroutine[Any, Any, R]], a: Source[A], b: Source[B], /, **options: Unpack[IMapOptions]
) -> AsyncGenerator[R, None]: ...
@overload
def aimap(
    fn: Callable[[A, B, C], Coroutine[Any, Any, R]],
    a: Source[A],
    b: Source[B],
    c: Source[C],
    /,
    **options: Unpack[IMapOptions],
) -> AsyncGenerator[R, None]: ...
@overload
def aimap(
    fn: Callable[..., Coroutine[Any, Any, R]],
    a: Source[Any],
    b: Source[Any],
    c: Source[Any],
    d: Source[Any],
    /,
    *iterables: Source[Any],
    **options: Unpack[IMapOptions],
) -> AsyncGenerator[R, None]: ...
@overload
def aimap(fn: Callable[[A], R], a: Source[A], /, **options: Unpack[IMapOptions]) -> AsyncGenerator[R, None]: ...
@overload
def aimap(
    fn: Callable[[A, B], R], a: Source[A], b: Source[B], /, **options: Unpack[IMapOptions]
) -> AsyncGenerator[R, None]: ...
@overload
def aimap(
    fn: Callable[[A, B, C], R], a: Source[A], b: Source[B], c: Source[C], /, **options: Unpack[IMapOptions]
) -> AsyncGenerator[R, None]: ...
@overload
def aimap(
    fn: Callable[[A, B, C, D], R],
    a: Source[A],
    b: Source[B],
    c: Source[C],
    d: Source[D],
    /,
    **options: Unpack[IMapOptions],
) -> AsyncGenerator[R, None]: ...
@overload
def aimap(
    fn: Callable[[A, B, C, D, E], R],
    a: Source[A],
    b: Source[B],
    c: Source[C],
    d: Source[D],
    e: Source[E],
    /,
    **options: Unpack[IMapOptions],
) -> AsyncGenerator[R, None]: ...
@overload
def aimap(
    fn: Callable[..., R],
    a: Source[Any],
    b: Source[Any],
    c: Source[Any],
    d: Source[Any],
    e: Source[Any],
    f: Source[Any],
    /,
    *iterables: Source[Any],
    **options: Unpack[IMapOptions],
) -> AsyncGenerator[R, None]: ...
def aimap(
    fn: Callable[..., Any],
    /,
    *iterables: Source[Any],
    plan: PlanLike = "auto",
    workers: int | None = None,
    chunksize: int = 1,
    timeout: float | None = None,
    buffersize: int | None = None,
    shared_state: bool | None = None,
    task_timeout: float | None = None,
    retries: int = 0,
    progress: ProgressLike = False,
    context: Contextual | None = None,
    cluster: Any = None,
) -> AsyncGenerator[Any, None]:
    """As `forkright.imap`, for ``async for``: results in order, with a bounded number of calls ahead of them::

        async for result in forkright.aimap(fn, xs):
            ...

    Whoever leaves the loop early ends the rest as the cancellation of `amap` does: at once with
    `contextlib.aclosing` or ``aclose()``, after a mere ``break`` when the iterator is let go.

    Args:
        fn: Called once for each item; a coroutine function runs as by `amap`.
        *iterables: Plain or asynchronous ones, endless too. A plain one is read in the loop's thread.
        chunksize: Items that travel to a worker process together; those of a coroutine function run there concurrently.
        timeout: Seconds that taking one result may last.
        buffersize: Calls under way or done whose results have not been taken, at most; a few for each worker if None.
    """
    if not iterables:
        raise TypeError("aimap() needs at least one iterable")
    if not callable(fn):
        raise TypeError(f"the first argument must be callable, not {fn!r}")
    fn = _map.within(fn, context, cluster)
    terms = _options.parse(task_timeout, retries)
    timeout = _coroutines.seconds(timeout)
    display = _map.display_of(progress, iterables)  # type: ignore[arg-type]
    if cluster is not None:
        job = _lazy.Job(
            fn, (), plan, workers, chunksize, buffersize, shared_state, terms, None, display, cluster=cluster
        )
        return _stream(_OnWorkers(job), iterables, timeout, display)
    if not _map.is_coroutine_function(fn):
        plan, workers = _beside_the_loop(plan, workers)
        job = _lazy.Job(fn, (), plan, workers, chunksize, buffersize, shared_state, terms, display=display)
        return _stream(_OnWorkers(job), iterables, timeout, display)
    _lazy.check_sizes(chunksize, buffersize)
    _plan.check_shared_state(shared_state, _plan.parse(plan, workers))
    processes, most = _coroutines.parse(plan, workers)
    if not processes:
        place = _OnLoop(fn, most, buffersize or most * _AHEAD, terms[0], display)
        return _stream(place, iterables, timeout, display)
    plan = _plan.Plan(processes)
    job = _lazy.Job(fn, (), plan, None, chunksize, buffersize, shared_state, terms, display=display, kind=_Concurrent)
    return _stream(_OnWorkers(job), iterables, timeout, display)


def _beside_the_loop(plan: PlanLike, workers: int | None) -> tuple[PlanLike, int | None]:
    """Serial work needs a thread, too: the calling one is the loop's."""
    fixed = _plan.parse(plan, workers)
    return ("threads", 1) if fixed is not None and fixed.kind == "serial" else (plan, workers)


class _OnLoop:
    """Calls of a coroutine function as tasks of the running loop."""

    size = 1

    def __init__(
        self, fn: Callable[..., Any], most: int, width: int, limit: float | None, display: Display | None
    ) -> None:
        self.width = width
        self._display = display
        self._fn, self._limit = fn, limit
        self._slots = asyncio.Semaphore(most)
        self._meter = _coroutines.Meter()
        self._running = set[asyncio.Task[Any]]()

    async def begin(self) -> None:
        if self._display is not None:
            self._display.begin(self._meter.look)

    async def start(self, calls: list[Call]) -> asyncio.Future[Any]:
        await self._slots.acquire()
        call = self._meter.call(self._fn, self._limit, 0, calls[0])
        task = asyncio.get_running_loop().create_task(call, context=_coroutines.context_for(self._fn))
        self._running.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        self._slots.release()

    def values(self, outcome: list[Any]) -> Iterable[Any]:
        return outcome

    async def end(self, whole: bool) -> None:
        for task in self._running:
            task.cancel()
        if self._running:
            await asyncio.wait(self._running)


class _OnWorkers:
    """Calls on the workers of an executor of their own."""

    def __init__(self, job: _lazy.Job) -> None:
        self._job, self._work = job, job.work
        self.size = self._work.size
        self.width = self._work.width or 1
        self.values = self._work.values

    async def begin(self) -> None:
        # It may start a thread or a process.
        self._executor: Executor = await _in_thread(self._job.hire)

    async def start(self, calls: list[Call]) -> asyncio.Future[Any]:
        return asyncio.wrap_future(self._work.submit(self._executor, calls))

    async def end(self, whole: bool) -> None:
        if not whole:
            self._executor.kill_workers()
            if not _gathering.kills_all(self._executor):
                self._executor.shutdown(wait=False, cancel_futures=True)
                return
        await _in_thread(self._executor.shutdown)


class _Concurrent(_lazy.Work):
    """Calls of a coroutine function, a chunk of which runs at a time on a worker's loop."""

    def _submit(self, executor: Executor, calls: list[Call]) -> Any:
        limit, retries, priority = self._terms
        arguments = (self._fn, calls, len(calls), True, limit)
        terms = (None, retries, priority) if retries else None
        return executor._pool.submit(_coroutines.run_chunk, arguments, None, self._fn, terms)

    def values(self, outcome: list[Any]) -> Generator[Any, None, None]:
        told = outcome.pop()
        if self.tally is not None:
            self.tally.add(0, len(told[1]))
        yield from _coroutines.unpack(*told)


async def _stream(
    place: _OnLoop | _OnWorkers, iterables: tuple[Source[Any], ...], timeout: float | None, display: Display | None
) -> AsyncGenerator[Any, None]:
    """Read and start calls in a task of their own, so that a slow source holds up no result that is there."""
    started = asyncio.Queue[asyncio.Future[Any] | BaseException | None]()
    room = asyncio.Semaphore(place.width)

    async def start_all() -> None:
        calls = _calls(iterables)
        chunk: list[Any] = [None]
        try:
            while chunk:
                await room.acquire()
                chunk, error = await _take(calls, place.size)
                if chunk:
                    started.put_nowait(await place.start(chunk))
                if error is not None:
                    raise error
        except Exception as error:
            started.put_nowait(error)
        started.put_nowait(None)

    await place.begin()
    starting = asyncio.create_task(start_all())
    whole = False
    try:
        while True:
            async with asyncio.timeout(timeout):
                entry = await started.get()
                if entry is None:
                    break
                if isinstance(entry, BaseException):
                    raise entry
                outcome = [await entry]
            room.release()
            del entry
            for value in place.values(outcome):
                yield value
                del value
        whole = True
    finally:
        starting.cancel()
        await asyncio.wait([starting])
        if display is not None:
            await _in_thread(display.end)
        await place.end(whole)


async def _take(calls: AsyncIterator[Call], size: int) -> tuple[list[Any], Exception | None]:
    """The next chunk, and what reading it raised: what was read before that counts."""
    chunk: list[Any] = []
    try:
        while len(chunk) < size:
            chunk.append(await anext(calls))
    except StopAsyncIteration:
        pass
    except Exception as error:
        return chunk, error
    return chunk, None


async def _calls(iterables: tuple[Source[Any], ...]) -> AsyncIterator[Call]:
    """The iterables, walked together; the shortest ends it."""
    readers = [aiter(it) if isinstance(it, AsyncIterable) else _plain(it) for it in iterables]
    while True:
        arguments = []
        for reader in readers:
            try:
                arguments.append(await anext(reader))
            except StopAsyncIteration:
                return
        yield tuple(arguments)


async def _plain(iterable: Iterable[Any]) -> AsyncIterator[Any]:
    for item in iterable:
        yield item


async def _in_thread(body: Callable[[], T], stop: Callable[[], None] | None = None) -> T:
    """What `body` returns, run in a thread of its own: those of the loop's may all be taken by what waits for this one.

    If the awaiting task is cancelled, `stop` is called, and its end awaited.
    """
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[tuple[bool, Any]] = loop.create_future()

    def work() -> None:
        outcome: tuple[bool, Any]
        try:
            outcome = True, body()
        except BaseException as error:
            outcome = False, error
        # Of a loop that is closed by now nobody waits.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(answer.set_result, outcome)

    threading.Thread(target=contextvars.copy_context().run, args=(work,), name="forkright-amap").start()
    try:
        await asyncio.wait([answer])
    except asyncio.CancelledError:
        if stop is not None:
            stop()
        await asyncio.wait([answer])
        raise
    value: T = _coroutines.value_of(answer.result())
    return value


def wait_for(future: Any) -> Generator[Any, Any, Any]:
    """What ``await future`` runs, in a task of asyncio's or trio's.

    Raises:
        RuntimeError: If no loop runs.
    """
    trio = sys.modules.get("trio")
    if trio is not None:
        try:
            token = trio.lowlevel.current_trio_token()
        except RuntimeError:
            pass  # a loop of asyncio's, in a program that has trio, too
        else:
            return _wait_in_trio(trio, token, future).__await__()
    return asyncio.wrap_future(future, loop=asyncio.get_running_loop()).__await__()


async def _wait_in_trio(trio: Any, token: Any, future: Any) -> Any:
    done = trio.Event()

    def tell(_: object) -> None:
        with contextlib.suppress(trio.RunFinishedError):
            token.run_sync_soon(done.set)

    future.add_done_callback(tell)
    try:
        await done.wait()
    except trio.Cancelled:
        future.cancel()
        raise
    return future.result()
