"""CPython's tests of `concurrent.futures`, with forkright's classes in the place of the standard library's.

`run.py` runs them. The suite itself comes from the `test` package of the interpreter and is not changed; where an
interpreter was installed without it, importing this module raises `ImportError`.
"""

from __future__ import annotations

import concurrent.futures
import importlib
import unittest
from collections.abc import Callable
from types import ModuleType
from typing import Any
from unittest import mock

import forkright as fr


def _part(name: str) -> ModuleType:
    """A module of the suite; older interpreters have all of it in one file."""
    suite = importlib.import_module("test.test_concurrent_futures")
    return importlib.import_module(f"{suite.__name__}.{name}") if hasattr(suite, "__path__") else suite


util = _part("util")


class Replaced:
    """Swaps what the suite knows by name, for one test."""

    def replace(self, module: ModuleType, name: str, value: object) -> None:
        patch = mock.patch.object(module, name, value)
        patch.start()
        self.addCleanup(patch.stop)  # type: ignore[attr-defined]


class Executors(Replaced, util.ExecutorMixin):  # type: ignore[name-defined,misc]
    """Stands before the suite's own mixins, so that what they set does not count."""

    def setUp(self) -> None:
        for name in ("ThreadPoolExecutor", "ProcessPoolExecutor"):
            self.replace(concurrent.futures, name, getattr(fr, name))
        shutdown = _part("test_shutdown")
        self.replace(shutdown, "assert_python_ok", _importing_forkright(shutdown.assert_python_ok))
        super().setUp()


class Threads(Executors):
    executor_type = fr.ThreadPoolExecutor


class Processes(Executors):
    executor_type = fr.ProcessPoolExecutor
    # The suite asks which start method it is: forkright's workers promise what those of "spawn" do.
    ctx = "spawn"


class HybridExecutor(fr.Executor):
    """Two processes that share the workers."""

    def __init__(self, max_workers: int = 4, **options: Any) -> None:
        super().__init__(max_workers, plan=fr.Plan(processes=2, threads=4), **options)


class Hybrid(Executors):
    executor_type = HybridExecutor


class Auto(Executors):
    executor_type = fr.Executor


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


def _importing_forkright(assert_python_ok: Callable[..., object]) -> Callable[..., object]:
    """Runs the suite's scripts with forkright's executors."""

    def run(*words: str, **options: Any) -> object:
        scripts = (word.replace("from concurrent.futures import", "from forkright import") for word in words)
        return assert_python_ok(*scripts, **options)

    return run


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


# For each kind of worker, its mixin and the suite's classes, by family: the module and the name.
KINDS: dict[str, tuple[type, dict[str, tuple[str, str]]]] = {
    "threads": (
        Threads,
        {
            "executor": ("test_thread_pool", "ThreadPoolExecutorTest"),
            "wait": ("test_wait", "ThreadPoolWaitTests"),
            "as_completed": ("test_as_completed", "AsCompletedTests"),
            "shutdown": ("test_shutdown", "ThreadPoolShutdownTest"),
            "initializer": ("test_init", "InitializerMixin"),
            "failing_initializer": ("test_init", "FailingInitializerMixin"),
        },
    ),
    "processes": (
        Processes,
        {
            "executor": ("test_process_pool", "ProcessPoolExecutorTest"),
            "wait": ("test_wait", "WaitTests"),
            "as_completed": ("test_as_completed", "AsCompletedTests"),
            "shutdown": ("test_shutdown", "ProcessPoolShutdownTest"),
            "initializer": ("test_init", "InitializerMixin"),
            "failing_initializer": ("test_init", "FailingInitializerMixin"),
            "deadlock": ("test_deadlock", "ExecutorDeadlockTest"),
        },
    ),
    "hybrid": (
        Hybrid,
        {
            "executor": ("executor", "ExecutorTest"),
            "wait": ("test_wait", "WaitTests"),
            "as_completed": ("test_as_completed", "AsCompletedTests"),
        },
    ),
    "auto": (
        Auto,
        {
            "executor": ("executor", "ExecutorTest"),
            "wait": ("test_wait", "WaitTests"),
            "as_completed": ("test_as_completed", "AsCompletedTests"),
        },
    ),
    "futures": (Futures, {"future": ("test_future", "FutureTests")}),
}


def _adapt(kind: str, family: str) -> type[unittest.TestCase]:
    mixin, families = KINDS[kind]
    module, name = families[family]
    tests = getattr(_part(module), name)
    case = () if issubclass(tests, unittest.TestCase) else (util.BaseTestCase,)
    return type(f"{kind}_{family}", (mixin, tests, *case), {"__module__": __name__})


CASES = {(kind, family): _adapt(kind, family) for kind, (_, families) in KINDS.items() for family in families}
# Worker processes look for the classes by name.
globals().update((case.__name__, case) for case in CASES.values())
