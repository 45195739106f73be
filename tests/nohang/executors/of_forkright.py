"""forkright, under its plans."""

from __future__ import annotations

import concurrent.futures
import time

import forkright as fr

from .shape import FutureExecutor, FutureHandle, Handle


class Forkright(FutureExecutor):
    def end(self, stuck: list[Handle]) -> bool:
        for handle in stuck:
            assert isinstance(handle, FutureHandle)
            _await_beginning(handle.future)
            handle.future.kill()  # type: ignore[attr-defined]
        if hasattr(self.executor, "kill_workers"):
            self.executor.kill_workers()
        return True


def _await_beginning(future: concurrent.futures.Future[object]) -> None:
    """A task that has not begun, as its worker is still starting, would be cancelled: it shall be stuck."""
    end = time.monotonic() + 1.0
    while not (future.running() or future.done()) and time.monotonic() < end:
        time.sleep(0.005)


class Hybrid(Forkright):
    beside = 1


EXECUTORS = {
    "forkright threads": lambda: Forkright(fr.ThreadPoolExecutor(2)),
    "forkright processes": lambda: Forkright(fr.ProcessPoolExecutor(2)),
    "forkright hybrid": lambda: Hybrid(fr.Executor(plan=fr.Plan(2, 2))),
    "forkright auto": lambda: Forkright(fr.Executor(2)),
}
