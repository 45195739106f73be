"""Dask distributed, by a `Client`."""

from __future__ import annotations

import asyncio
import operator
import uuid
from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from cloudpickle import cloudpickle  # type: ignore[import-untyped]
from distributed import KilledWorker  # pyright: ignore[reportMissingImports]
from distributed.client import FutureCancelledError  # pyright: ignore[reportMissingImports]

from . import parcel, remote

if TYPE_CHECKING:
    from . import Cancel, Done

# Bytes from which data goes to workers by itself: the scheduler, through which tasks go, would have to keep it.
_LARGE = 1_000_000


class Dask:
    """A client; closing it is its owner's."""

    name = "Dask"
    ranks = True

    def __init__(self, client: Any) -> None:
        if client.asynchronous:
            raise ValueError(
                "the Client is an asynchronous one, which waits on its own event loop; make another one for forkright"
            )
        if client.status == "closed":
            raise ValueError("the Client is closed; make another one: `Client(address)`")
        self._client = client
        self._runner: Any = None

    def workers(self) -> int:
        return sum(self._client.nthreads().values())

    def put(self, payload: bytes) -> Any:
        if len(payload) >= _LARGE:
            return self._client.scatter(payload, broadcast=True, hash=False)
        return self._made(bytes, payload)

    def send(self, token: str, function: Any, chunk: bytes, name: str, priority: int, done: Done) -> Cancel:
        if self._runner is None:
            self._runner = self._made(cloudpickle.loads, parcel.runner(remote.call))
        arguments = chunk if len(chunk) < _LARGE else self._client.scatter(chunk, hash=False)
        future = self._client.submit(
            operator.call, self._runner, token, function, arguments, key=_key(name), priority=priority, pure=False
        )

        def tell(ended: Future[Any]) -> None:
            future.release()
            error = ended.exception()
            done(*((None, error) if error else ended.result()))

        asyncio.run_coroutine_threadsafe(_outcome(future), self._client.loop.asyncio_loop).add_done_callback(tell)
        return future.cancel  # type: ignore[no-any-return]

    def death(self, error: BaseException) -> str | None:
        if isinstance(error, KilledWorker):
            killed: Any = error  # what type checkers make of it differs where Dask is missing
            tried, last = killed.allowed_failures + 1, killed.last_worker.address
            return f"Dask gave it to {tried} workers, all of which died, the last one {last}"
        if isinstance(error, FutureCancelledError):
            return f"Dask lost what it needed: {error}"
        return None

    def _made(self, make: Callable[[bytes], Any], payload: bytes) -> Any:
        """What a task makes: if the worker dies that has it, another one makes it again."""
        return self._client.submit(make, payload, key=_key("forkright"), pure=False)


async def _outcome(future: Any) -> tuple[Any, BaseException | None]:
    """What a task returned, or the error that ended it. Its own callbacks share one thread, and would end before us."""
    outcome = await future._result(raiseit=False)
    if future.status == "error":
        return None, outcome[1]
    return (None, outcome) if isinstance(outcome, BaseException) else (outcome, None)


def _key(name: str) -> str:
    # Dask's dashboard names tasks by what is before the number.
    return f"{name}-{uuid.uuid4()}"
