"""Pebble."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pebble

from .shape import Callback, Executor, FutureHandle, Handle


class Pebble(Executor):
    def __init__(self) -> None:
        self.pool = pebble.ProcessPool(2)

    def submit(self, function: Callable[..., Any], *arguments: Any, callback: Callback | None = None) -> Handle:
        future = self.pool.schedule(function, args=arguments)
        if callback is not None:
            future.add_done_callback(callback)
        return FutureHandle(future)

    def close(self) -> None:
        self.pool.close()
        self.pool.join()

    def end(self, stuck: list[Handle]) -> bool:
        for handle in stuck:
            assert isinstance(handle, FutureHandle)
            handle.future.cancel()  # it ends what runs, too
        self.pool.stop()
        self.pool.join()
        return True


EXECUTORS = {"Pebble": Pebble}
