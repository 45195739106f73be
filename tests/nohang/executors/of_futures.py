"""`concurrent.futures`, for each start method."""

from __future__ import annotations

import concurrent.futures
import multiprocessing
from collections.abc import Callable

from .shape import FutureExecutor, Handle


class Processes(FutureExecutor):
    def end(self, stuck: list[Handle]) -> bool:
        # Since Python 3.14.
        if not hasattr(self.executor, "kill_workers"):
            return False
        self.executor.kill_workers()
        return True


def _processes(method: str) -> Callable[[], Processes]:
    return lambda: Processes(concurrent.futures.ProcessPoolExecutor(2, mp_context=multiprocessing.get_context(method)))


EXECUTORS = {
    "ThreadPoolExecutor": lambda: FutureExecutor(concurrent.futures.ThreadPoolExecutor(2)),
    "ProcessPoolExecutor fork": _processes("fork"),
    "ProcessPoolExecutor forkserver": _processes("forkserver"),
    "ProcessPoolExecutor spawn": _processes("spawn"),
}
