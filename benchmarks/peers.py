"""forkright and its alternatives in one shape. Imports each where it is opened: a cold start includes its imports."""

from __future__ import annotations

import contextlib
import importlib.util
import operator
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from typing import Any, Literal, NamedTuple

PROCESSES = 2
THREADS = 4

Method = Literal["fork", "forkserver", "spawn"]
# A parallel map: a function and its items, and the list of results.
Map = Callable[[Callable[[Any], Any], Iterable[Any]], list[Any]]


class Workers(NamedTuple):
    """An open pool. Both are the pool's own methods, or C: nothing of ours is added to a task."""

    submit: Callable[..., Any]
    result: Callable[[Any], Any]


@contextlib.contextmanager
def forkright_processes() -> Iterator[Workers]:
    import forkright as fr

    with fr.ProcessPoolExecutor(PROCESSES) as executor:
        yield Workers(executor.submit, operator.methodcaller("result"))


@contextlib.contextmanager
def forkright_threads() -> Iterator[Workers]:
    import forkright as fr

    with fr.ThreadPoolExecutor(THREADS) as executor:
        yield Workers(executor.submit, operator.methodcaller("result"))


@contextlib.contextmanager
def futures_processes(method: Method) -> Iterator[Workers]:
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor

    with ProcessPoolExecutor(PROCESSES, mp_context=multiprocessing.get_context(method)) as executor:
        yield Workers(executor.submit, operator.methodcaller("result"))


@contextlib.contextmanager
def futures_threads() -> Iterator[Workers]:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(THREADS) as executor:
        yield Workers(executor.submit, operator.methodcaller("result"))


@contextlib.contextmanager
def pool(method: Method) -> Iterator[Workers]:
    import multiprocessing

    with multiprocessing.get_context(method).Pool(PROCESSES) as opened:
        # `apply_async` wants a tuple of arguments: the lambda costs it a tenth of a microsecond.
        yield Workers(lambda fn, item: opened.apply_async(fn, (item,)), operator.methodcaller("get"))


@contextlib.contextmanager
def loky_processes() -> Iterator[Workers]:
    import loky  # type: ignore[import-not-found,import-untyped,unused-ignore]

    executor = loky.ProcessPoolExecutor(PROCESSES)
    try:
        yield Workers(executor.submit, operator.methodcaller("result"))
    finally:
        executor.shutdown()


@contextlib.contextmanager
def forkright_map() -> Iterator[Map]:
    import forkright as fr

    plan = fr.Plan(processes=PROCESSES)
    yield lambda fn, items: fr.map(fn, items, plan=plan)


@contextlib.contextmanager
def forkright_auto_map() -> Iterator[Map]:
    import forkright as fr

    yield fr.map


@contextlib.contextmanager
def pool_map(method: Method) -> Iterator[Map]:
    import multiprocessing

    with multiprocessing.get_context(method).Pool(PROCESSES) as opened:
        yield opened.map


@contextlib.contextmanager
def futures_processes_map(method: Method, chunksize: int) -> Iterator[Map]:
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor

    with ProcessPoolExecutor(PROCESSES, mp_context=multiprocessing.get_context(method)) as executor:
        yield lambda fn, items: list(executor.map(fn, items, chunksize=chunksize))


@contextlib.contextmanager
def futures_threads_map(threads: int | None) -> Iterator[Map]:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(threads) as executor:
        yield lambda fn, items: list(executor.map(fn, items))


EXECUTORS: dict[str, Callable[[], AbstractContextManager[Workers]]] = {
    "fr.ProcessPoolExecutor": forkright_processes,
    "fr.ThreadPoolExecutor": forkright_threads,
    "futures, fork": lambda: futures_processes("fork"),
    "futures, forkserver": lambda: futures_processes("forkserver"),
    "futures, spawn": lambda: futures_processes("spawn"),
    "futures, threads": futures_threads,
    "Pool, fork": lambda: pool("fork"),
    "Pool, forkserver": lambda: pool("forkserver"),
    "loky": loky_processes,
}

MAPS: dict[str, Callable[[], AbstractContextManager[Map]]] = {
    "fr.map": forkright_map,
    "fr.map, auto": forkright_auto_map,
    "Pool.map, fork": lambda: pool_map("fork"),
    "Pool.map, forkserver": lambda: pool_map("forkserver"),
    "futures map by 100, fork": lambda: futures_processes_map("fork", 100),
    "futures map by 100, forkserver": lambda: futures_processes_map("forkserver", 100),
    "futures map by 1000, fork": lambda: futures_processes_map("fork", 1000),
    "futures map by 1000, forkserver": lambda: futures_processes_map("forkserver", 1000),
    "ThreadPoolExecutor()": lambda: futures_threads_map(None),
    "ThreadPoolExecutor(20)": lambda: futures_threads_map(20),
}

# Contestants that need more than the standard library, with the module.
EXTRA = {"loky": "loky"}


def missing() -> list[str]:
    """The contestants that are not installed here."""
    return [name for name, module in EXTRA.items() if importlib.util.find_spec(module) is None]
