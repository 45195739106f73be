"""What forkright itself raises or warns of. Where the standard library has a class for it, that is used."""

from __future__ import annotations

import os
from concurrent.futures import BrokenExecutor

from ._pickling import UnpicklableError

try:
    # What the standard library raises of a worker's death, and whoever awaits that gets ours.
    from concurrent.futures.process import BrokenProcessPool
except (ImportError, RuntimeError):
    # It takes part in the interpreter's end, and there is none left to take part in.
    BrokenProcessPool = BrokenExecutor  # type: ignore[misc,assignment]

_OURS = os.path.dirname(os.path.abspath(__file__))


class ForkrightWarning(UserWarning):
    """Something works otherwise than one may think."""


class WorkerDied(BrokenProcessPool):  # pyright: ignore[reportGeneralTypeIssues]
    """The worker process died while it ran the task. Other tasks are not affected, and the pool is not broken.

    Programs that were written for the standard library catch it as its ``BrokenProcessPool``.

    Attributes:
        task: What was called.
        pid: The process; 0 if nobody could tell, as on a cluster.
        exitcode: Its exit code, minus the signal that killed it, or None if nobody could tell.
        traceback: Where its thread was when native code crashed, as `faulthandler` tells it, most recent call first;
            empty if nothing was told, as where the program has set up `faulthandler` itself.
    """

    def __init__(self, task: str, pid: int, exitcode: int | None, how: str, last_words: str = "") -> None:
        self.traceback = _of_user(last_words)
        who = f"the worker process {pid}" if pid else "the cluster's worker"
        super().__init__(_with(f"{who} died while it ran `{task}`: {how}", self.traceback))
        self.task = task
        self.pid = pid
        self.exitcode = exitcode
        self._how = how

    def __reduce__(self) -> tuple[type[WorkerDied], tuple[str, int, int | None, str, str]]:
        return (WorkerDied, (self.task, self.pid, self.exitcode, self._how, self.traceback))


class UndecodableError(UnpicklableError, BrokenProcessPool):  # pyright: ignore[reportGeneralTypeIssues]
    """What arrived in another process could not be rebuilt there. Other tasks are not affected.

    The standard library's pool breaks then, so this is a ``BrokenProcessPool``, too.
    """


class TaskTimeoutError(TimeoutError):
    """A task ran for longer than its ``task_timeout`` and was ended.

    Attributes:
        task: What was called.
        limit: Seconds that it was allowed.
        pid: The worker process that was killed for it, with all processes that it had started; 0 if none was: the
            task ran on a thread, which can't be killed and goes on by itself. What it gives is dropped. -1 for a
            coroutine, which was cancelled.
    """

    def __init__(self, task: str, limit: float, pid: int) -> None:
        match pid:
            case -1:
                done = "the coroutine was cancelled"
            case 0:
                done = "its thread can't be killed and is left to itself"
            case _:
                done = _killed(pid)
        super().__init__(f"`{task}` ran for longer than its task_timeout of {limit:g} s: {done}")
        self.task = task
        self.limit = limit
        self.pid = pid

    def __reduce__(self) -> tuple[type[TaskTimeoutError], tuple[str, float, int]]:
        return (TaskTimeoutError, (self.task, self.limit, self.pid))


class TaskKilledError(RuntimeError):
    """A task was ended by `Future.kill`.

    Attributes:
        task: What was called.
        pid: The worker process that was killed for it, with all processes that it had started; 0 if none was: the
            task ran on a thread, which can't be killed and goes on by itself. What it gives is dropped.
    """

    def __init__(self, task: str, pid: int) -> None:
        done = _killed(pid) if pid else "its thread can't be killed and is left to itself"
        super().__init__(f"`{task}` was ended by Future.kill(): {done}")
        self.task = task
        self.pid = pid

    def __reduce__(self) -> tuple[type[TaskKilledError], tuple[str, int]]:
        return (TaskKilledError, (self.task, self.pid))


def _killed(pid: int) -> str:
    return f"the worker process {pid} and what it had started were killed"


class BrokenWorkers(BrokenExecutor):
    """No worker can be had, so the executor is broken. The message says why."""


def stillborn(reason: str, last_words: str) -> BrokenWorkers:
    """Workers end before they are ready; what the last one wrote as it crashed says where."""
    return BrokenWorkers(_with(reason, _of_user(last_words)))


def _with(text: str, traceback: str) -> str:
    return f"{text}\n\n{traceback}" if traceback else text


def _of_user(last_words: str) -> str:
    """What `faulthandler` wrote, without our own frames and the list of extension modules."""
    lines = []
    for line in last_words.splitlines():
        if line.startswith(("Extension modules:", f'  File "{_OURS}{os.sep}')):
            break
        lines.append(line)
    if lines and lines[-1].startswith("Stack "):
        # The thread that the signal hit ran nothing of the user's.
        del lines[-1]
    return "\n".join(lines).rstrip()
