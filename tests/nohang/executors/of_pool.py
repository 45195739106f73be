"""`multiprocessing.Pool`."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from typing import Any

from .shape import Callback, Executor, Handle, ResultHandle


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
