"""`multiprocessing.Pool`."""

from __future__ import annotations

import multiprocessing
import multiprocessing.pool
from collections.abc import Callable
from typing import Any

from .shape import Callback, Executor, Handle, Outcome


class ResultHandle(Handle):
    def __init__(self, result: multiprocessing.pool.AsyncResult[Any]) -> None:
        self.result = result

    def outcome(self, limit: float) -> Outcome | None:
        self.result.wait(limit)
        if not self.result.ready():
            return None
        try:
            return Outcome(self.result.get(), None)
        except BaseException as error:
            return Outcome(None, error)


class Pool(Executor):
    def __init__(self) -> None:
        self.pool = multiprocessing.Pool(2)

    def submit(self, function: Callable[..., Any], *arguments: Any, callback: Callback | None = None) -> Handle:
        return ResultHandle(self.pool.apply_async(function, arguments, {}, callback, callback))

    def close(self) -> None:
        self.pool.close()
        self.pool.join()

    def end(self, stuck: list[Handle]) -> bool:
        self.pool.terminate()
        self.pool.join()
        return True


EXECUTORS = {"multiprocessing.Pool": Pool}
