"""What `submit` returns: a real `concurrent.futures.Future` on a base in Rust."""

from __future__ import annotations

import concurrent.futures
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from ._core import FutureBase

T = TypeVar("T")


class Future(FutureBase, concurrent.futures.Future[T], Generic[T]):
    """The outcome of a call that may not have happened yet.

    It is a `concurrent.futures.Future`: ``wait``, ``as_completed``, ``asyncio.wrap_future``, callbacks, ``cancel`` and
    timeouts work as there. ``cancel()`` succeeds until a worker starts the call. In addition ``reading()`` tells what
    the call cost, and ``kill()`` ends a call that runs: it is cancelled if it has not begun; else the worker process
    that runs it is killed, with all that this one started, and the future fails with `TaskKilledError`. A call on a
    thread can't be killed: its future fails, and what it gives is dropped. ``kill()`` returns whether anything was
    ended.

    ``await future`` waits for the result in a task of asyncio's or trio's. If that task is cancelled, so is the call
    unless it has begun.
    """

    __slots__ = ()

    if TYPE_CHECKING:
        # As in `_core`, with the type of the result.

        def result(self, timeout: float | None = None) -> T:
            """Waits for the end of the call; what it returned.

            Raises:
                TimeoutError: If it takes longer than `timeout` seconds.
                CancelledError: If it was cancelled.
                BaseException: Whatever it raised.
            """
            ...

        def add_done_callback(self, fn: Callable[[Future[T]], object]) -> None:
            """Has `fn` called with this future when the call is over, or at once if it is."""

        def set_result(self, result: T) -> None: ...

    def __await__(self) -> Generator[Any, Any, T]:
        from ._asyncio import wait_for

        return wait_for(self)


def log_callback(future: Future[object], error: BaseException) -> None:
    """Report a callback that raised, where the standard library reports it."""
    from concurrent.futures._base import LOGGER

    LOGGER.error("exception calling callback for %r", future, exc_info=error)


def log_initializer(error: BaseException) -> None:
    """Report an initializer that raised, where the standard library reports it."""
    from concurrent.futures._base import LOGGER

    LOGGER.critical("Exception in initializer:", exc_info=error)
