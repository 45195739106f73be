"""Any `concurrent.futures.Executor` that stands for a cluster."""

from __future__ import annotations

import concurrent.futures
from typing import TYPE_CHECKING, Any

from .._core import cpu_count
from . import parcel, remote

if TYPE_CHECKING:
    from . import Cancel, Done

# How executors name the tasks that they run at a time.
_SIZES = ("num_workers", "max_workers", "_max_workers")


class Futures:
    """An executor; shutting it down is its owner's.

    It can't be told to give something to each worker. So a function goes with as many chunks as there are workers, and
    after that with those for which a worker asked.
    """

    ranks = False

    def __init__(self, executor: Any) -> None:
        self.name = f"the {type(executor).__name__}"
        self._executor = executor

    def workers(self) -> int:
        sizes = (getattr(self._executor, name, None) for name in _SIZES)
        return next((size for size in sizes if isinstance(size, int) and size > 0), cpu_count())

    def put(self, payload: bytes) -> Any:
        return _Carried(payload, self.workers())

    def send(self, token: str, function: Any, chunk: bytes, name: str, priority: int, done: Done) -> Cancel:
        out: list[concurrent.futures.Future[Any]] = []

        def submit(carried: bytes | None) -> None:
            future = self._executor.submit(parcel.Carrier(remote.call), token, carried, chunk)
            out[:] = [future]
            future.add_done_callback(tell)

        def tell(ended: concurrent.futures.Future[Any]) -> None:
            if ended.cancelled():
                return
            error = ended.exception()
            answer = None if error else ended.result()
            if answer != remote.MISSING:
                done(answer, error)
                return
            try:
                submit(function.payload)
            except BaseException as refused:
                done(None, refused)

        submit(function.take())
        return lambda: out[0].cancel()

    def death(self, error: BaseException) -> str | None:
        return str(error) if isinstance(error, concurrent.futures.BrokenExecutor) else None


class _Carried:
    """A function on its way to workers."""

    def __init__(self, payload: bytes, times: int) -> None:
        self.payload = payload
        self._times = iter(range(times))

    def take(self) -> bytes | None:
        """The payload, so many times; None after that."""
        return None if next(self._times, None) is None else self.payload
