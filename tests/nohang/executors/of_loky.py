"""loky."""

from __future__ import annotations

import loky

from .shape import FutureExecutor, Handle


class Loky(FutureExecutor):
    def end(self, stuck: list[Handle]) -> bool:
        self.executor.shutdown(kill_workers=True)
        return True


EXECUTORS = {"loky": lambda: Loky(loky.ProcessPoolExecutor(2))}
