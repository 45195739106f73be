"""CPython's tests of `concurrent.futures`, with forkright's classes in the place of the standard library's.

`run.py` runs them. The suite itself comes from the `test` package of the interpreter and is not changed; where an
interpreter was installed without it, importing this module raises `ImportError`.
"""

from __future__ import annotations

import concurrent.futures
import importlib
import re
import time
import unittest
from types import ModuleType
from typing import Any

from replaced import HERE, Replaced, start_helpers

import forkright as fr

# Scripts look for the classes by name.
from forkright import ProcessPoolExecutor as ProcessPoolExecutor
from forkright import ThreadPoolExecutor as ThreadPoolExecutor


def _part(name: str) -> ModuleType:
    """A module of the suite; older interpreters have all of it in one file."""
    suite = importlib.import_module("test.test_concurrent_futures")
    return importlib.import_module(f"{suite.__name__}.{name}") if hasattr(suite, "__path__") else suite


util = _part("util")


class AutoLikeThreads(fr.Executor):
    """`forkright.Executor` as it is, with the signature of a `ThreadPoolExecutor`."""

    def __init__(
        self, max_workers: int | None = None, thread_name_prefix: str = "", initializer: Any = None, initargs: Any = ()
    ) -> None:
        super().__init__(max_workers, thread_name_prefix=thread_name_prefix, initializer=initializer, initargs=initargs)


class AutoLikeProcesses(fr.Executor):
    """`forkright.Executor` as it is, with the signature of a `ProcessPoolExecutor`."""

    def __init__(self, max_workers: int | None = None, mp_context: object = None, **options: Any) -> None:
        super().__init__(max_workers, **options)


class Hybrid(fr.Executor):
    """Processes of two threads each, with the signature of a `ProcessPoolExecutor`."""

    def __init__(self, max_workers: int | None = None, mp_context: object = None, **options: Any) -> None:
        if max_workers is not None and max_workers <= 0:
            raise ValueError("max_workers must be greater than 0")
        super().__init__(plan=fr.Plan(processes=-(-(max_workers or 4) // 2), threads=2), **options)


class Executors(Replaced, util.ExecutorMixin):  # type: ignore[name-defined,misc]
    """Stands before the suite's own mixins, so that what they set does not count."""

    # What the suite knows by these names.
    threads: type = fr.ThreadPoolExecutor
    processes: type = fr.ProcessPoolExecutor

    def setUp(self) -> None:
        self.replace(concurrent.futures, "ThreadPoolExecutor", self.threads)
        self.replace(concurrent.futures, "ProcessPoolExecutor", self.processes)
        self.rewrite_scripts(self._of_forkright)
        super().setUp()
        if self._testMethodName == "test_cancel_futures" and self.executor_type is not self.threads:  # type: ignore[attr-defined]
            self._let_one_begin()

    def _let_one_begin(self) -> None:
        """One of the test's calls must have begun when it cancels them. The suite's own executors say so of calls that
        wait for a worker to start, too; forkright's can still cancel these."""
        submit = self.executor.submit

        def submit_first(*arguments: Any) -> fr.Future[Any]:
            self.executor.submit = submit
            future: fr.Future[Any] = submit(*arguments)
            while not future.running() and not future.done():
                time.sleep(0.001)
            return future

        self.executor.submit = submit_first

    def _of_forkright(self, script: str) -> str:
        kind = self.executor_type.__name__
        return re.sub(
            r"from concurrent\.futures import (\w+)",
            rf"import sys; sys.path.append({HERE!r}); from adapted import {kind} as \1",
            script,
        )


class LikeThreads(Executors):
    executor_type = fr.ThreadPoolExecutor


class LikeProcesses(Executors):
    executor_type = fr.ProcessPoolExecutor
    # The suite asks which start method it is: forkright's workers promise what those of "spawn" do.
    ctx = "spawn"


class HybridLikeProcesses(LikeProcesses):
    executor_type = processes = Hybrid


class AutoThreads(LikeThreads):
    executor_type = threads = AutoLikeThreads
    processes = AutoLikeProcesses


class AutoProcesses(LikeProcesses):
    executor_type = processes = AutoLikeProcesses
    threads = AutoLikeThreads


class Futures(Replaced):
    """The tests of futures alone: they make their own, by the names their module imported."""

    def setUp(self) -> None:
        module = _part("test_future")
        self.replace(module, "Future", fr.Future)
        self.replace(module, "create_future", _future_in)
        for state in ("PENDING", "RUNNING", "CANCELLED", "CANCELLED_AND_NOTIFIED"):
            self.replace(module, f"{state}_FUTURE", _future_in(state))
        self.replace(module, "EXCEPTION_FUTURE", _future_in("FINISHED", exception=OSError()))
        self.replace(module, "SUCCESSFUL_FUTURE", _future_in("FINISHED", result=42))
        super().setUp()  # type: ignore[misc]


def _future_in(state: str, exception: BaseException | None = None, result: object = None) -> fr.Future[object]:
    """The suite's `create_future`, which writes to private attributes, by public means."""
    future: fr.Future[object] = fr.Future()
    if state.startswith("CANCELLED"):
        future.cancel()
    if state in ("RUNNING", "FINISHED", "CANCELLED_AND_NOTIFIED"):
        future.set_running_or_notify_cancel()
    if state == "FINISHED":
        if exception is None:
            future.set_result(result)
        else:
            future.set_exception(exception)
    return future


# The suite's classes, by family: the module and the name.
THREADS = {
    "executor": ("test_thread_pool", "ThreadPoolExecutorTest"),
    "wait": ("test_wait", "ThreadPoolWaitTests"),
    "as_completed": ("test_as_completed", "AsCompletedTests"),
    "shutdown": ("test_shutdown", "ThreadPoolShutdownTest"),
    "initializer": ("test_init", "InitializerMixin"),
    "failing_initializer": ("test_init", "FailingInitializerMixin"),
}
PROCESSES = {
    "executor": ("test_process_pool", "ProcessPoolExecutorTest"),
    "wait": ("test_wait", "WaitTests"),
    "as_completed": ("test_as_completed", "AsCompletedTests"),
    "shutdown": ("test_shutdown", "ProcessPoolShutdownTest"),
    "initializer": ("test_init", "InitializerMixin"),
    "failing_initializer": ("test_init", "FailingInitializerMixin"),
    "deadlock": ("test_deadlock", "ExecutorDeadlockTest"),
}
KINDS: dict[str, tuple[type, dict[str, tuple[str, str]]]] = {
    "threads": (LikeThreads, THREADS),
    "processes": (LikeProcesses, PROCESSES),
    "hybrid": (HybridLikeProcesses, PROCESSES),
    "auto-like-threads": (AutoThreads, THREADS),
    "auto-like-processes": (AutoProcesses, PROCESSES),
    "futures": (Futures, {"future": ("test_future", "FutureTests")}),
}


def _adapt(kind: str, family: str) -> type[unittest.TestCase]:
    mixin, families = KINDS[kind]
    module, name = families[family]
    tests = getattr(_part(module), name)
    case = () if issubclass(tests, unittest.TestCase) else (util.BaseTestCase,)
    return type(f"{kind.replace('-', '_')}_{family}", (mixin, tests, *case), {"__module__": __name__})


CASES = {(kind, family): _adapt(kind, family) for kind, (_, families) in KINDS.items() for family in families}
# Worker processes look for the classes by name.
globals().update((case.__name__, case) for case in CASES.values())


def setUpModule() -> None:
    start_helpers()
