"""forkright's workers for `joblib.Parallel`, and so for scikit-learn: importing this module registers the backend.

    import joblib
    import forkright.joblib

    with joblib.parallel_config(backend="forkright"):
        ...

It has joblib's semantics: worker processes, or threads where a caller says ``prefer="threads"`` or
``require="sharedmem"``. docs/joblib.md tells what differs from loky.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

import joblib.parallel

from . import _inner, _plan
from ._executor import Executor

if TYPE_CHECKING:
    from ._future import Future
    from ._report import Report

__all__ = ["ForkrightBackend", "report"]

# Seconds for which worker processes are kept for the next call, as loky keeps its own.
IDLE = 300.0

Key: TypeAlias = tuple[Any, ...]

_told = ""


def report() -> Report:
    """What the workers of the last `joblib.Parallel` that is over did: their tasks are the batches that joblib made.

    Worker processes that served earlier calls tell of those, too.

    Raises:
        LookupError: If there has been none.
    """
    from ._report import Report

    if not _told:
        raise LookupError("there is no report yet: nothing has run on the backend")
    return Report(_told)


class ForkrightBackend(joblib.parallel.AutoBatchingMixin, joblib.parallel.ParallelBackendBase):  # type: ignore[misc]
    """Runs the batches of a `joblib.Parallel` on forkright's workers.

    Args:
        nesting_level: joblib's: how many calls of `joblib.Parallel` this one is inside of.
        inner_max_num_threads: Threads of BLAS and OpenMP in each worker process, at most; cores by processes if None.
        idle_worker_timeout: Seconds for which worker processes wait for the next call, 300 if None.
        initializer, initargs: What each worker process calls first.
    """

    supports_retrieve_callback = True
    supports_inner_max_num_threads = True
    supports_sharedmem = True

    # Seconds of a batch. What carrying one costs is a small part of that.
    MIN_IDEAL_BATCH_DURATION = 0.05

    def __init__(
        self,
        nesting_level: int | None = None,
        inner_max_num_threads: int | None = None,
        **backend_kwargs: Any,
    ) -> None:
        super().__init__(nesting_level=nesting_level, inner_max_num_threads=inner_max_num_threads, **backend_kwargs)
        self._workers: Executor | None = None
        self._key: Key = ()
        # Calls that are under way: those of one `joblib.parallel_config` share this object, and so their workers.
        self._calls = 0

    def effective_n_jobs(self, n_jobs: int | None) -> int:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Tasks that run at a time: -1 stands for one for each core, None for one.

        Raises:
            ValueError: If it is 0.
        """
        if n_jobs == 0:
            raise ValueError("n_jobs == 0 in Parallel has no meaning")
        if n_jobs is None or n_jobs == 1:
            return 1
        # As loky, for the sake of the cores: whoever is outside has its own workers on them.
        if multiprocessing.current_process().daemon:
            return _alone("in a daemonic process of multiprocessing")
        if self.nesting_level != 0 and not self.in_main_thread():
            return _alone("below threads")
        if n_jobs < 0:
            return max(int(joblib.parallel.cpu_count()) + 1 + n_jobs, 1)
        return n_jobs

    def configure(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        n_jobs: int = 1,
        parallel: Any = None,
        prefer: str | None = None,
        require: str | None = None,
        **options: Any,
    ) -> int:
        """Get ready for one call of `joblib.Parallel`, on workers that were left by an earlier one if there are any."""
        n_jobs = self.effective_n_jobs(n_jobs)
        if n_jobs == 1:
            raise _sequential(self.nesting_level)
        options = {**self.backend_kwargs, **options}
        self.parallel = parallel
        self._prefer, self._require = prefer, require
        self._idle_after = options.get("idle_worker_timeout") or IDLE
        if prefer == "threads" or require == "sharedmem":
            self._hire((n_jobs,), lambda: Executor(plan=_plan.Plan(threads=n_jobs)))
            return n_jobs
        environment = self._prepare_worker_env(n_jobs=n_jobs)
        made = (environment, options.get("initializer"), tuple(options.get("initargs") or ()))
        plan = _plan.Plan(processes=n_jobs)
        self._hire((n_jobs, *made), lambda: Executor(plan=plan, initializer=_inner.settle_in, initargs=made))
        return n_jobs

    def _hire(self, key: Key, make: Callable[[], Executor]) -> None:
        if self._workers is not None and self._key != key:
            # What another call has submitted still runs; what it will submit goes to the new ones.
            self._workers.shutdown(wait=False)
            self._workers = None
        if self._workers is None:
            self._key, self._calls, self._workers = key, 0, _shelf.take(key) or make()
        self._calls += 1

    def submit(self, func: Any, callback: Callable[[Future[Any]], object] | None = None) -> Future[Any]:
        """Have a worker run a batch."""
        if self._workers is None:
            raise RuntimeError("the workers of this joblib.Parallel were ended by another call that failed")
        future: Future[Any]
        if _has_processes(self._workers):
            future = self._workers._pool.submit(call, (func,), None, _called(func))
        else:
            future = self._workers.submit(func)
        if callback is not None:
            future.add_done_callback(callback)
        return future

    def retrieve_result_callback(self, out: Future[Any]) -> Any:
        """What a batch returned, or what it raised."""
        return out.result()

    def terminate(self) -> None:
        """A call is over: worker processes wait for the next one, threads are made in no time."""
        global _told
        self._calls -= 1
        if self._workers is not None:
            _told = self._workers._told()
        if self._workers is not None and self._calls <= 0:
            workers, self._workers = self._workers, None
            if _has_processes(workers):
                _shelf.put(self._key, workers, self._idle_after)
            else:
                workers.shutdown(wait=False)
        self.reset_batch_stats()

    def abort_everything(self, ensure_ready: bool = True) -> None:
        """End what runs: worker processes are killed, with all that they started."""
        workers, self._workers = self._workers, None
        if workers is not None:
            workers.kill_workers()
            workers.shutdown(wait=False)
        if ensure_ready:
            # Without what the backend was made with, which it still has.
            self.configure(
                n_jobs=self.parallel.n_jobs, parallel=self.parallel, prefer=self._prefer, require=self._require
            )


def call(batch: Callable[[], Any]) -> Any:
    """In a worker process: run a batch."""
    return batch()


def _has_processes(workers: Executor) -> bool:
    return workers._plan is not None and workers._plan.processes > 0


def _called(batch: Any) -> Callable[..., Any]:
    """The user's function that a batch calls, for messages and for what a worker's fresh import would lose."""
    items = getattr(batch, "items", None)
    function: Callable[..., Any] = items[0][0] if items else batch
    return function


def _alone(where: str) -> int:
    # joblib's words: users filter them.
    warnings.warn(f"forkright-backed parallel loops cannot be nested {where}, setting n_jobs=1", stacklevel=4)
    return 1


def _sequential(nesting_level: int | None) -> Exception:
    sequential = joblib.parallel.SequentialBackend(nesting_level=nesting_level)
    return joblib.parallel.FallbackToBackend(sequential)  # type: ignore[no-any-return]


class _Shelf:
    """Keeps the worker processes of one call for the next one like it, for some time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: tuple[Key, Executor, threading.Timer] | None = None

    def take(self, key: Key) -> Executor | None:
        """Workers that were made as `key` tells, if there are any; they are the caller's then."""
        with self._lock:
            if self._kept is None or self._kept[0] != key:
                return None
            (_, workers, timer), self._kept = self._kept, None
        timer.cancel()
        return workers

    def put(self, key: Key, workers: Executor, seconds: float) -> None:
        """Keep them instead of those that were kept till now."""
        timer = threading.Timer(seconds, self._end, (workers,))
        timer.daemon = True
        with self._lock:
            before, self._kept = self._kept, (key, workers, timer)
        timer.start()
        if before is not None:
            before[2].cancel()
            before[1].shutdown(wait=False)

    def clear(self) -> None:
        """End what is kept."""
        with self._lock:
            kept, self._kept = self._kept, None
        if kept is not None:
            kept[2].cancel()
            kept[1].shutdown()
            kept[2].join()

    def forget(self) -> None:
        """In a process that was forked: what is kept is its parent's."""
        self.__init__()  # type: ignore[misc]

    def _end(self, workers: Executor) -> None:
        with self._lock:
            if self._kept is None or self._kept[1] is not workers:
                return
            self._kept = None
        workers.shutdown(wait=False)


_shelf = _Shelf()

os.register_at_fork(after_in_child=_shelf.forget)
joblib.parallel.register_parallel_backend("forkright", ForkrightBackend)
