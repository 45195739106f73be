"""What the suite asks of an executor, whatever its own interface is called."""

from __future__ import annotations

import abc
import concurrent.futures
from collections.abc import Callable
from typing import Any, NamedTuple

Callback = Callable[[object], None]


class Outcome(NamedTuple):
    value: object
    error: BaseException | None


class Handle(abc.ABC):
    """One task that was submitted."""

    @abc.abstractmethod
    def outcome(self, limit: float) -> Outcome | None:
        """What became of it; None if it has not ended after `limit` seconds."""


class Executor(abc.ABC):
    """An open pool of two workers."""

    # Tasks that run in the same process as another, and so end with it.
    beside = 0

    @abc.abstractmethod
    def submit(self, function: Callable[..., Any], *arguments: Any, callback: Callback | None = None) -> Handle:
        """Hand over a task; the callback is called once when it has ended."""

    @abc.abstractmethod
    def close(self) -> None:
        """Let everything that was submitted end, then the workers."""

    def end(self, stuck: list[Handle]) -> bool:
        """End what will never end by itself, by the means that the package documents; False if it has none."""
        return False


class FutureHandle(Handle):
    def __init__(self, future: concurrent.futures.Future[Any]) -> None:
        self.future = future

    def outcome(self, limit: float) -> Outcome | None:
        # A TimeoutError of `result` could be the task's own, too.
        if not concurrent.futures.wait([self.future], limit).done:
            return None
        try:
            return Outcome(self.future.result(), None)
        except BaseException as error:
            return Outcome(None, error)


class ResultHandle(Handle):
    """What `apply_async` of a pool gives."""

    def __init__(self, result: Any) -> None:
        self.result = result

    def outcome(self, limit: float) -> Outcome | None:
        self.result.wait(limit)
        if not self.result.ready():
            return None
        try:
            return Outcome(self.result.get(), None)
        except BaseException as error:
            return Outcome(None, error)


class FutureExecutor(Executor):
    """An executor of futures."""

    def __init__(self, executor: Any) -> None:
        self.executor = executor

    def submit(self, function: Callable[..., Any], *arguments: Any, callback: Callback | None = None) -> Handle:
        future = self.executor.submit(function, *arguments)
        if callback is not None:
            future.add_done_callback(callback)
        return FutureHandle(future)

    def close(self) -> None:
        self.executor.shutdown()
