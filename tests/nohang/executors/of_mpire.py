"""MPIRE."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mpire

from .shape import Callback, Executor, Handle, ResultHandle


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
