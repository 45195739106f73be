"""The public names that are more than the rest of the package on another core: reports that claim nothing, and the
standard library's own pools and processes.
"""

from __future__ import annotations

import multiprocessing.pool
from collections.abc import Callable, Iterable
from concurrent.futures import CancelledError, Future
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pickle import PicklingError
from threading import Thread
from typing import TYPE_CHECKING, Any

from .. import _executor, _map, _plan, _report
from .._errors import WorkerDied
from . import core, say_once, warn

if TYPE_CHECKING:
    from .._map import PlanLike

__all__ = ["Executor", "Future", "Pool", "Process", "ProcessPoolExecutor", "Report", "ThreadPoolExecutor", "report"]


class Report(_report.Report):
    """What ran where, and how long all of it took. Nothing was measured, so there is no reason and no cost."""

    @property
    def why(self) -> str:
        return str(self.data["why"])

    def _facts(self) -> list[tuple[str, str]]:
        return [("ran", _report._ran(self.data)), ("time", _report.seconds(self.data["wall"]))]


def report() -> _report.Report:
    """What the last `map` or `starmap` of this process did: plan, tasks, time.

    Raises:
        LookupError: If there has been none.
    """
    return Report(_map.report().to_json())


class Executor(_executor.Executor):
    """`forkright.Executor` on the standard library's executors, whose futures it gives.

    What differs: with ``plan="auto"`` calls run on threads; a worker process that dies breaks the executor, as does
    an initializer that raises: all calls then fail with `concurrent.futures.BrokenExecutor`. Worker processes are
    not replaced after ``max_tasks_per_child`` or ``max_memory_per_child``, and a warning says so: where the standard
    library replaces them after some tasks, it may wait for ever (https://github.com/python/cpython/issues/115634).
    `kill_workers` kills worker processes alone, without what they started.
    """

    def report(self) -> _report.Report:
        return Report(self._told())


class ThreadPoolExecutor(Executor, _executor.ThreadPoolExecutor):
    """`Executor` on threads, with the standard library's signature."""


class ProcessPoolExecutor(Executor, _executor.ProcessPoolExecutor):
    """`Executor` on worker processes, with the standard library's signature; ``mp_context`` is not used."""


def Pool(
    processes: int | None = None,
    initializer: Callable[..., Any] | None = None,
    initargs: Iterable[Any] = (),
    maxtasksperchild: int | None = None,
    *,
    plan: PlanLike = "processes",
) -> multiprocessing.pool.Pool:
    """`multiprocessing.Pool`, or its pool of threads if that is the plan; as there, a function."""
    say_once()
    now = core.taken(_plan.parse(plan, processes), processes)
    if now.processes:
        return core.spawning.Pool(now.processes, initializer, initargs, maxtasksperchild)
    return multiprocessing.pool.ThreadPool(now.threads, initializer, initargs)


class Process(SpawnProcess):
    """A `multiprocessing.Process` of the start method spawn, with a result.

    The main module needs its guard, and what the process is given must pickle as the standard library pickles.
    """

    _outcome: Future[Any] | None = None
    _outlet: Connection

    def start(self) -> None:
        """Start the process.

        Raises:
            UnpicklableError: If what it is given can't travel; it may be tried again.
        """
        say_once()
        inlet, self._outlet = core.spawning.Pipe(duplex=False)
        try:
            super().start()
        except BaseException as error:
            inlet.close()
            if isinstance(error, (PicklingError, AttributeError, TypeError)):
                raise core.unpicklable(error, f"the process {self.name}") from error
            raise
        finally:
            # Only the process has the writing end now, so its death ends the reading.
            self._outlet.close()
            del self._outlet
        self._outcome = Future()
        # Reads at once: the process could not end while its pipe is full.
        Thread(target=_listen, args=(inlet, self._outcome, self.name), daemon=True).start()

    def result(self, timeout: float | None = None) -> Any:
        """Wait for the target's end; what it returned. The process itself ends a moment later: see `join`.

        Raises:
            TimeoutError: If it takes longer than `timeout` seconds.
            WorkerDied: If the process was killed or left without ending its target.
            UnpicklableError: If the value can't travel.
            BaseException: Whatever the target raised, with the process's traceback as the cause.
            ValueError: If the process was not started, or is closed.
        """
        self._check_closed()  # type: ignore[attr-defined]
        if self._outcome is None:
            raise ValueError("process not started")
        try:
            return self._outcome.result(timeout)
        except CancelledError:
            if not self._outcome.cancelled():
                raise
        raise self._death()

    @property
    def reading(self) -> dict[str, float] | None:
        """None: nothing is measured."""
        return None

    def _death(self) -> WorkerDied:
        self.join()
        assert self.pid is not None
        code = self.exitcode
        killed = code is not None and code < 0
        how = f"it was killed by signal {-(code or 0)}" if killed else f"it left with exit code {code}"
        return WorkerDied(self.name, self.pid, code, how)

    def _bootstrap(self, parent_sentinel: int | None = None) -> int:
        """In the process: all that `multiprocessing` does there, with a `run` that tells its outcome."""
        self.run = partial(self._tell, self.run)  # type: ignore[method-assign]
        return super()._bootstrap(parent_sentinel)  # type: ignore[misc,no-any-return]

    def _tell(self, body: Callable[[], Any]) -> None:
        try:
            value = body()
        except BaseException as error:
            self._outlet.send(core.failed(error))
            raise
        self._outlet.send(core.encoded(value, f"the result of {self.name}"))

    def run(self) -> Any:
        if self._target is not None:  # type: ignore[attr-defined]
            return self._target(*self._args, **self._kwargs)  # type: ignore[attr-defined]
        return None


def forward_logging() -> None:
    """Warns that nothing is forwarded: worker processes of the standard library's know no way."""
    warn("what worker processes log is not forwarded: set up their loggers in an initializer")


def _listen(inlet: Connection, outcome: Future[Any], name: str) -> None:
    """Wait for what a process tells of its target; cancels `outcome` if it dies before that."""
    with inlet:
        try:
            told = inlet.recv()
        except (EOFError, OSError):
            outcome.cancel()
            return
    succeeded, value = core.decoded(told, f"the result of {name}")
    if succeeded:
        outcome.set_result(value)
    else:
        outcome.set_exception(value)
