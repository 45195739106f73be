"""What forkright itself raises or warns of. Where the standard library has a class for it, that is used."""

from __future__ import annotations

from concurrent.futures import BrokenExecutor


class ForkrightWarning(UserWarning):
    """Something works otherwise than one may think."""


class WorkerDied(BrokenExecutor):
    """The worker process died while it ran the task. Other tasks are not affected.

    Attributes:
        task: What was called.
        pid: The process.
        exitcode: Its exit code, minus the signal that killed it, or None if nobody could tell.
    """

    def __init__(self, task: str, pid: int, exitcode: int | None, how: str) -> None:
        super().__init__(f"the worker process {pid} died while it ran `{task}`: {how}")
        self.task = task
        self.pid = pid
        self.exitcode = exitcode
        self._how = how

    def __reduce__(self) -> tuple[type[WorkerDied], tuple[str, int, int | None, str]]:
        return (WorkerDied, (self.task, self.pid, self.exitcode, self._how))


class BrokenWorkers(BrokenExecutor):
    """No worker can be had, so the executor is broken. The message says why."""
