"""MPIRE."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mpire

from .shape import Callback, Executor, Handle, Outcome


class ResultHandle(Handle):
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


class Mpire(Executor):
    def __init__(self) -> None:
        self.pool = mpire.WorkerPool(2)

    def submit(self, function: Callable[..., Any], *arguments: Any, callback: Callback | None = None) -> Handle:
        return ResultHandle(self.pool.apply_async(function, arguments, callback=callback, error_callback=callback))

    def close(self) -> None:
        self.pool.stop_and_join()

    def end(self, stuck: list[Handle]) -> bool:
        self.pool.terminate()
        return True


EXECUTORS = {"MPIRE": Mpire}
