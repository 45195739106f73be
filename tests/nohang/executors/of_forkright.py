"""forkright, under its plans."""

from __future__ import annotations

import forkright as fr

from .shape import FutureExecutor, FutureHandle, Handle


class Forkright(FutureExecutor):
    def end(self, stuck: list[Handle]) -> bool:
        for handle in stuck:
            assert isinstance(handle, FutureHandle)
            handle.future.kill()  # type: ignore[attr-defined]
        if hasattr(self.executor, "kill_workers"):
            self.executor.kill_workers()
        return True


class Hybrid(Forkright):
    beside = 1


EXECUTORS = {
    "forkright threads": lambda: Forkright(fr.ThreadPoolExecutor(2)),
    "forkright processes": lambda: Forkright(fr.ProcessPoolExecutor(2)),
    "forkright hybrid": lambda: Hybrid(fr.Executor(plan=fr.Plan(2, 2))),
    "forkright auto": lambda: Forkright(fr.Executor(2)),
}
