"""Maps that do not wait for all results: `imap`, `imap_unordered` and `Executor.map`."""

from __future__ import annotations

import collections
import itertools
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, wait
from typing import TYPE_CHECKING, Any, NamedTuple

from . import _pickling

if TYPE_CHECKING:
    from ._executor import Executor
    from ._future import Future
    from ._map import PlanLike

# Calls ahead of the results taken, for each worker: enough to keep all busy, few enough to stay small.
_AHEAD = 4


def imap_ordered(
    fn: Callable[..., Any],
    iterables: tuple[Iterable[Any], ...],
    plan: PlanLike,
    workers: int | None,
    chunksize: int,
    timeout: float | None,
    buffersize: int | None,
) -> Iterator[Any]:
    """The results in the order of the items."""
    chunks = _checked(fn, iterables, chunksize, buffersize)
    return _ordered(fn, chunks, plan, workers, timeout, buffersize)


def imap_as_completed(
    fn: Callable[..., Any],
    iterables: tuple[Iterable[Any], ...],
    plan: PlanLike,
    workers: int | None,
    chunksize: int,
    timeout: float | None,
    buffersize: int | None,
) -> Iterator[Any]:
    """The results in the order in which they come."""
    chunks = _checked(fn, iterables, chunksize, buffersize)
    return _as_completed(fn, chunks, plan, workers, timeout, buffersize)


def executor_map(
    executor: Executor,
    fn: Callable[..., Any],
    iterables: tuple[Iterable[Any], ...],
    timeout: float | None,
    chunksize: int,
    buffersize: int | None,
) -> Iterator[Any]:
    """As `concurrent.futures.Executor.map`: submits at once, all of it unless `buffersize` says how much."""
    if buffersize is not None and not isinstance(buffersize, int):
        raise TypeError("buffersize must be an integer or None")
    if buffersize is not None and buffersize < 1:
        raise ValueError("buffersize must be None or > 0")
    if chunksize < 1:
        raise ValueError("chunksize must be >= 1.")
    end = None if timeout is None else time.monotonic() + timeout
    chunks = _chunks(iterables, chunksize)
    ahead = chunks if buffersize is None else itertools.islice(chunks, buffersize)
    sent = collections.deque(_submit(executor, fn, chunk) for chunk in ahead)
    return _results(executor, fn, sent, chunks, end)


def _results(
    executor: Executor,
    fn: Callable[..., Any],
    sent: collections.deque[_Sent],
    chunks: Iterator[list[tuple[Any, ...]]],
    end: float | None,
) -> Iterator[Any]:
    try:
        while sent:
            for chunk in itertools.islice(chunks, 1):
                sent.append(_submit(executor, fn, chunk))
            # Taken out only when it is there, and nothing here keeps a result alive that the caller has dropped.
            results = sent[0].results(None if end is None else end - time.monotonic())
            sent.popleft()
            yield from results
    finally:
        for call in sent:
            call.future.cancel()


def _ordered(
    fn: Callable[..., Any],
    chunks: Iterator[list[tuple[Any, ...]]],
    plan: PlanLike,
    workers: int | None,
    timeout: float | None,
    buffersize: int | None,
) -> Iterator[Any]:
    from ._executor import Executor

    executor = Executor(workers, plan=plan)
    sent: collections.deque[_Sent] = collections.deque()
    try:
        most = buffersize or _AHEAD * executor._max_workers
        read = _reading(chunks)
        while True:
            while len(sent) < most and (chunk := next(read)) is not None:
                sent.append(_submit(executor, fn, chunk))
            if not sent:
                break
            yield from sent.popleft().results(timeout)
        _raise_left(read)
    finally:
        _close(executor)


def _as_completed(
    fn: Callable[..., Any],
    chunks: Iterator[list[tuple[Any, ...]]],
    plan: PlanLike,
    workers: int | None,
    timeout: float | None,
    buffersize: int | None,
) -> Iterator[Any]:
    from ._executor import Executor

    executor = Executor(workers, plan=plan)
    sent: dict[Future[Any], _Sent] = {}
    try:
        most = buffersize or _AHEAD * executor._max_workers
        read = _reading(chunks)
        while True:
            while len(sent) < most and (chunk := next(read)) is not None:
                call = _submit(executor, fn, chunk)
                sent[call.future] = call
            if not sent:
                break
            done, _ = wait(sent, timeout, FIRST_COMPLETED)
            if not done:
                raise TimeoutError
            for future in done:
                yield from sent.pop(future).results(0)  # type: ignore[arg-type]
        _raise_left(read)
    finally:
        _close(executor)


class _reading:  # noqa: N801 - used like the generator it wraps
    """Reads chunks until there are no more; None from then on. An error of the iterable waits for its turn: what came
    before it is still delivered."""

    def __init__(self, chunks: Iterator[list[tuple[Any, ...]]]) -> None:
        self._chunks = chunks
        self.error: BaseException | None = None
        self._over = False

    def __next__(self) -> list[tuple[Any, ...]] | None:
        if self._over:
            return None
        try:
            return next(self._chunks)
        except StopIteration:
            self._over = True
        except Exception as error:
            self._over, self.error = True, error
        return None


def _raise_left(read: _reading) -> None:
    if read.error is not None:
        raise read.error


def _close(executor: Executor) -> None:
    """End the executor of an iterator that is exhausted, closed or dropped; what has not started never will."""
    executor.shutdown(wait=False, cancel_futures=True)


def _checked(
    fn: Callable[..., Any], iterables: tuple[Iterable[Any], ...], chunksize: int, buffersize: int | None
) -> Iterator[list[tuple[Any, ...]]]:
    if not callable(fn):
        raise TypeError(f"the first argument must be callable, not {fn!r}")
    if not iterables:
        raise TypeError("at least one iterable is needed")
    for name, number in (("chunksize", chunksize), ("buffersize", buffersize)):
        if number is not None and (isinstance(number, bool) or not isinstance(number, int)):
            raise TypeError(f"{name} must be an integer, not {number!r}")
        if number is not None and number < 1:
            raise ValueError(f"{name} must be greater than 0, not {number}")
    return _chunks(iterables, chunksize)


def _chunks(iterables: tuple[Iterable[Any], ...], size: int) -> Iterator[list[tuple[Any, ...]]]:
    # Iterators are made now, so that what is not iterable is an error of the call, not of the first result.
    items = zip(*[iter(iterable) for iterable in iterables], strict=False)
    return iter(lambda: list(itertools.islice(items, size)), [])


def _submit(executor: Executor, fn: Callable[..., Any], chunk: list[tuple[Any, ...]]) -> _Sent:
    if len(chunk) == 1:
        # By itself: then the choice knows the function, and cancelling reaches it.
        return _Sent(executor.submit(fn, *chunk[0]), False)
    return _Sent(executor.submit(_run_chunk, fn, chunk), True)


class _Sent(NamedTuple):
    """A call that was submitted, or a chunk of them."""

    future: Future[Any]
    is_chunk: bool

    def results(self, timeout: float | None) -> Iterator[Any]:
        """Wait for the outcome; its values one by one, then its error."""
        outcome = self.future.result(timeout)
        return _unpacked(outcome) if self.is_chunk else iter((outcome,))


def _run_chunk(fn: Callable[..., Any], chunk: list[tuple[Any, ...]]) -> tuple[list[Any], BaseException | bytes | None]:
    """The values of a chunk up to the first error, and that error."""
    values: list[Any] = []
    for arguments in chunk:
        try:
            values.append(fn(*arguments))
        except Exception as error:
            # By itself it would lose its traceback on the way.
            return values, _pickling.encode_exception(error) if _pickling.in_worker else error
    return values, None


def _unpacked(outcome: tuple[list[Any], BaseException | bytes | None]) -> Iterator[Any]:
    values, error = outcome
    values.reverse()
    while values:
        yield values.pop()
    if isinstance(error, bytes):
        raise _pickling.decode_exception(error)
    if error is not None:
        raise error
