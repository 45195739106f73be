"""Every public call takes absurd arguments: it refuses them in words, or does what they say, and never more than that.

What a value is absurd for is left to chance. A call may raise `TypeError` or `ValueError` with a sentence, or what the
value itself raises when it is used. It may not raise anything else, panic, hang or cost anybody else a task.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import inspect
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import forkright as fr
import tasks
from waiting import LIMIT


class HostileError(Exception):
    """What hostile values raise."""


class Hostile:
    """Whatever is asked of it, it raises."""

    def __getattr__(self, name: str) -> Any:
        raise HostileError(name)

    def _refuse(self, *_: object) -> Any:
        raise HostileError

    __bool__ = __eq__ = __lt__ = __le__ = __gt__ = __ge__ = __hash__ = _refuse  # type: ignore[assignment]
    __len__ = __iter__ = __index__ = __int__ = __float__ = __call__ = _refuse


class HostileNumber(int):
    """An integer by birth only."""

    def _refuse(self, *_: object) -> Any:
        raise HostileError

    __bool__ = __eq__ = __lt__ = __le__ = __gt__ = __ge__ = __hash__ = _refuse  # type: ignore[assignment]
    __index__ = __int__ = __float__ = __repr__ = __str__ = _refuse


class Words(str):
    """A string by birth."""


# By name: what draws and prints values would use them.
SPECIAL: dict[str, Any] = {
    "...": Ellipsis,
    "an object": object(),
    "a class": object,
    "hostile": Hostile(),
    "a hostile number": HostileNumber(2),
    "a kind of string": Words("threads"),
    "a function": lambda: None,
    "a module": tasks,
    "an exception": ValueError("a value"),
    "a lock": threading.Lock(),
}
PLAIN = st.one_of(
    st.sampled_from([None, True, False, float("nan"), float("inf"), float("-inf"), -0.0, 5e-324, 1.7e308, 1j]),
    st.sampled_from([Fraction(1, 3), 2**31, 2**32, 2**63, 2**64, -(2**63) - 1, 10**400, "\ud800", "\0", "threads\n"]),
    st.integers(-3, 3),
    st.floats(-1, 1),
    st.text(max_size=4),
    st.binary(max_size=4),
    st.lists(st.integers(), max_size=2),
    st.dictionaries(st.text(max_size=2), st.none(), max_size=1),
    st.tuples(st.integers(-1, 2), st.integers(-1, 2)),
)


def absurd(data: st.DataObject) -> Any:
    """A value that hardly anything can be done with."""
    name = data.draw(st.one_of(st.none(), st.sampled_from(sorted(SPECIAL))), label="special value")
    return data.draw(PLAIN, label="value") if name is None else SPECIAL[name]


REFUSALS = (
    TypeError,
    ValueError,
    HostileError,
    fr.UnpicklableError,
    fr.ForkrightWarning,  # of a callable that shows progress, and raises
)
# What an absurd time may lead to; of one that is no float the standard library says that it overflows.
OUTCOMES = (TimeoutError, OverflowError, concurrent.futures.CancelledError, concurrent.futures.InvalidStateError)


@pytest.fixture(scope="module")
def executors() -> Iterator[dict[str, fr.Executor]]:
    made = {
        "threads": fr.Executor(2, plan="threads"),
        "processes": fr.Executor(1, plan="processes"),
        "auto": fr.Executor(2),
    }
    yield made
    for executor in made.values():
        assert executor.submit(tasks.square, 3).result(LIMIT) == 9
        executor.shutdown()


def _used(executor: fr.Executor) -> None:
    with executor:
        # Only what few workers do is tried: a plan of 65,536 makes sense, and is none for a test.
        if 0 < executor._max_workers <= 4:
            with contextlib.suppress(concurrent.futures.BrokenExecutor):
                assert executor.submit(tasks.square, 3).result(LIMIT) == 9


def _pool(**arguments: Any) -> None:
    pool = fr.Pool(**arguments)
    pool.terminate()
    pool.join()


def _set(method: str, value: Any) -> None:
    future: fr.Future[Any] = fr.Future()
    getattr(future, method)(value)
    assert future.done()


def _in_plan(function: Callable[..., Any], **arguments: Any) -> None:
    """A map, wherever it goes: its plan and workers are at most what a test may start."""
    list(function(tasks.square, [1, 2, 3], **({"plan": "threads"} | arguments)))


async def _gathered(results: AsyncIterator[Any]) -> list[Any]:
    return [result async for result in results]


def _in_loop(function: Callable[..., Any], fn: Callable[..., Any], **arguments: Any) -> None:
    """As `_in_plan`, from a coroutine."""

    async def main() -> None:
        results = function(fn, [1, 2, 3], **({"plan": "threads"} | arguments))
        await (results if inspect.isawaitable(results) else _gathered(results))

    asyncio.run(main())


async def _square(number: int) -> int:
    return number * number


# The call that gets one absurd argument, by its name; and what it may be.
CONSTRUCTORS: dict[str, tuple[Callable[..., Any], tuple[str, ...]]] = {
    "Plan": (fr.Plan, ("processes", "threads")),
    "Executor": (
        lambda **given: _used(fr.Executor(**({"plan": "threads"} | given))),
        (
            "max_workers",
            "plan",
            "initializer",
            "initargs",
            "max_tasks_per_child",
            "max_memory_per_child",
            "thread_name_prefix",
            "shared_state",
            "context",
        ),
    ),
    "ThreadPoolExecutor": (
        lambda **given: _used(fr.ThreadPoolExecutor(**given)),
        ("max_workers", "thread_name_prefix", "initializer", "initargs"),
    ),
    "ProcessPoolExecutor": (
        lambda **given: _used(fr.ProcessPoolExecutor(**({"max_workers": 1} | given))),
        ("max_workers", "mp_context", "initializer", "initargs", "max_tasks_per_child", "max_memory_per_child"),
    ),
    "Pool": (
        lambda **given: _pool(**({"processes": 1, "plan": "threads"} | given)),
        ("processes", "initializer", "initargs", "maxtasksperchild", "plan"),
    ),
    "map": (
        lambda **given: _in_plan(fr.map, **given),
        (
            "plan",
            "workers",
            "chunksize",
            "timeout",
            "on_error",
            "shared_state",
            "task_timeout",
            "retries",
            "seed",
            "progress",
            "context",
        ),
    ),
    "starmap": (
        lambda **given: fr.starmap(tasks.add, [(1, 2)], **({"plan": "threads"} | given)),
        (
            "plan",
            "workers",
            "chunksize",
            "timeout",
            "on_error",
            "shared_state",
            "task_timeout",
            "retries",
            "seed",
            "progress",
            "context",
        ),
    ),
    "keep_workers": (lambda **given: fr.keep_workers(given.pop("seconds", 10.0), **given), ("seconds",)),
    "release": (lambda **given: fr.release(**given), ("timeout",)),
    "worker_state": (lambda **given: fr.worker_state(given.pop("factory", None), *given.values()), ("factory", "arg")),
    "share": (lambda **given: fr.share(given.pop("obj", b"bytes"), **given), ("obj", "writable")),
    "imap": (
        lambda **given: _in_plan(fr.imap, **given),
        (
            "plan",
            "workers",
            "chunksize",
            "timeout",
            "buffersize",
            "shared_state",
            "task_timeout",
            "retries",
            "seed",
            "progress",
            "context",
        ),
    ),
    "imap_unordered": (
        lambda **given: _in_plan(fr.imap_unordered, **given),
        (
            "plan",
            "workers",
            "chunksize",
            "timeout",
            "buffersize",
            "shared_state",
            "task_timeout",
            "retries",
            "seed",
            "progress",
            "context",
        ),
    ),
    "map of coroutines": (
        lambda **given: fr.map(_square, [1, 2, 3], **({"plan": "threads"} | given)),
        ("plan", "workers", "chunksize", "timeout", "on_error", "shared_state", "task_timeout", "retries", "context"),
    ),
    "amap": (
        lambda **given: _in_loop(fr.amap, tasks.square, **given),
        ("plan", "workers", "chunksize", "timeout", "on_error", "shared_state", "task_timeout", "retries", "context"),
    ),
    "aimap": (
        lambda **given: _in_loop(fr.aimap, tasks.square, **given),
        ("plan", "workers", "chunksize", "timeout", "buffersize", "shared_state", "task_timeout", "retries", "context"),
    ),
    "aimap of coroutines": (
        lambda **given: _in_loop(fr.aimap, _square, **given),
        ("plan", "workers", "chunksize", "timeout", "buffersize", "shared_state", "task_timeout", "retries", "context"),
    ),
}


@pytest.mark.parametrize("name", CONSTRUCTORS)
@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck), print_blob=True)
@given(data=st.data())
def test_what_is_absurd_is_refused_in_words(name: str, data: st.DataObject) -> None:
    call, parameters = CONSTRUCTORS[name]
    parameter = data.draw(st.sampled_from(parameters), label="parameter")
    value = absurd(data)
    _expect(lambda: call(**{parameter: value}), *OUTCOMES)


@pytest.mark.parametrize("kind", ["threads", "processes", "auto"])
@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck), print_blob=True)
@given(data=st.data())
def test_an_executor_gets_over_absurd_calls(executors: dict[str, fr.Executor], kind: str, data: st.DataObject) -> None:
    executor = executors[kind]
    value = absurd(data)
    calls: dict[str, Callable[[], Any]] = {
        "submit": lambda: executor.submit(value).result(LIMIT),
        "argument": lambda: executor.submit(tasks.everything, value, key=value).result(LIMIT),
        "submit with terms": lambda: executor.options(retries=1).submit(value).result(LIMIT),
        "map": lambda: list(executor.map(value, [1, 2])),
        "map over": lambda: list(executor.map(tasks.identity, value)),
        "chunksize": lambda: list(executor.map(tasks.square, [1, 2], chunksize=value)),
        "buffersize": lambda: list(executor.map(tasks.square, [1, 2], buffersize=value)),
        "timeout of map": lambda: list(executor.map(tasks.square, [1, 2], timeout=value)),
        "task_timeout": lambda: executor.options(task_timeout=value).submit(tasks.square, 2).result(LIMIT),
        "retries": lambda: executor.options(retries=value).submit(tasks.square, 2).result(LIMIT),
        "priority": lambda: executor.options(priority=value).submit(tasks.square, 2).result(LIMIT),
        "context": lambda: executor.options(context=value).submit(tasks.square, 2).result(LIMIT),
        "priority again": lambda: executor.options().options(priority=value).map(tasks.square, [1]),
        "result": lambda: executor.submit(tasks.square, 2).result(value),
        "exception": lambda: executor.submit(tasks.square, 2).exception(value),
        "callback": lambda: executor.submit(tasks.square, 2).add_done_callback(value),
        "kill": lambda: executor.submit(tasks.square, 2).kill(value),  # type: ignore[call-arg]
    }
    call = data.draw(st.sampled_from(sorted(calls)), label="call")
    _expect(calls[call], *OUTCOMES)
    assert executor.submit(tasks.square, 4).result(LIMIT) == 16


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck), print_blob=True)
@given(data=st.data())
def test_futures_threads_processes_and_errors_get_over_absurd_calls(data: st.DataObject) -> None:
    value = absurd(data)
    calls: dict[str, Callable[[], Any]] = {
        "set_result": lambda: _set("set_result", value),
        "set_exception": lambda: _set("set_exception", value),
        "Future": lambda: fr.Future(value),  # type: ignore[call-arg]
        "Thread name": lambda: fr.Thread(name=value),
        "Thread args": lambda: fr.Thread(target=tasks.everything, args=value),
        "Thread daemon": lambda: fr.Thread(daemon=value),
        "Thread result": lambda: _thread().result(value),
        "Process name": lambda: fr.Process(name=value),
        "Process args": lambda: fr.Process(target=tasks.everything, args=value),
        "Process kwargs": lambda: fr.Process(target=tasks.everything, kwargs=value),
        "Process daemon": lambda: fr.Process(daemon=value),
        "cpu_count": lambda: fr.cpu_count(value),  # type: ignore[call-arg]
        "report": lambda: fr.report(value),  # type: ignore[call-arg]
        "Report": lambda: str(fr.Report(value)),
        "WorkerDied": lambda: str(fr.WorkerDied(value, value, value, value)),
        "TaskTimeoutError": lambda: str(fr.TaskTimeoutError("task", value, 1)),
        "TaskKilledError": lambda: str(fr.TaskKilledError(value, 0)),
    }
    call = data.draw(st.sampled_from(sorted(calls)), label="call")
    _expect(
        calls[call],
        *OUTCOMES,
        AssertionError if call.startswith(("Thread", "Process")) else TypeError,
    )


def _thread() -> fr.Thread:
    thread = fr.Thread(target=tasks.square, args=(2,))
    thread.start()
    return thread


def _expect(call: Callable[[], Any], *outcomes: type[BaseException]) -> None:
    try:
        call()
    except (*REFUSALS, *outcomes) as error:
        if not isinstance(error, HostileError):
            assert str(error) or isinstance(error, outcomes), "an error without a word"
    finally:
        assert threading.active_count() < 200
    assert sys.getswitchinterval() > 0


def test_every_public_callable_is_among_them() -> None:
    tried = {
        *CONSTRUCTORS,
        "Future",
        "Thread",
        "Process",
        "Progress",
        "Report",
        "WorkerDied",
        "TaskTimeoutError",
        "TaskKilledError",
        "cpu_count",
        "report",
        # Take text alone, as exceptions do.
        "BrokenWorkers",
        "ForkrightWarning",
        "RemoteError",
        "UnpicklableError",
        # A namespace.
        "WorkerState",
        # With tests of their own.
        "forward_logging",
        "why",
    }
    public = {name for name in fr.__all__ if callable(getattr(fr, name)) and not inspect.ismodule(getattr(fr, name))}
    assert public - tried == set()
