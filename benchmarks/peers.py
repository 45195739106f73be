"""forkright and its alternatives in one shape. Imports each where it is opened: a cold start includes its imports."""

from __future__ import annotations

import contextlib
import importlib.util
import operator
from functools import partial

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from contextlib import AbstractContextManager
    from typing import Any, Literal

    Method = Literal["fork", "forkserver", "spawn"]
    # An open pool: `submit`, and what gives the result of what that returned. They are the pool's own methods, C, or as
    # little as makes one of them: next to nothing is added.
    Workers = tuple[Callable[..., Any], Callable[[Any], Any]]
    Open = Callable[[int], AbstractContextManager[Workers]]
    # A parallel map: a function and its items, and the list of results.
    Map = Callable[[Callable[[Any], Any], Iterable[Any]], list[Any]]

PROCESSES = 2
THREADS = 4

_result = operator.methodcaller("result")
_get = operator.methodcaller("get")


@contextlib.contextmanager
def forkright_processes(workers: int) -> Iterator[Workers]:
    import forkright as fr

    with fr.ProcessPoolExecutor(workers) as executor:
        yield executor.submit, _result


@contextlib.contextmanager
def forkright_threads(workers: int) -> Iterator[Workers]:
    import forkright as fr

    with fr.ThreadPoolExecutor(workers) as executor:
        yield executor.submit, _result


@contextlib.contextmanager
def futures_processes(method: Method, workers: int) -> Iterator[Workers]:
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor

    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context(method)) as executor:
        yield executor.submit, _result


@contextlib.contextmanager
def futures_threads(workers: int) -> Iterator[Workers]:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(workers) as executor:
        yield executor.submit, _result


@contextlib.contextmanager
def pool(method: Method, workers: int) -> Iterator[Workers]:
    import multiprocessing

    with multiprocessing.get_context(method).Pool(workers) as opened:
        # `apply_async` wants a tuple of arguments: the lambda costs it a tenth of a microsecond.
        yield lambda fn, *items: opened.apply_async(fn, items), _get


@contextlib.contextmanager
def loky_processes(workers: int) -> Iterator[Workers]:
    import loky  # type: ignore[import-not-found,import-untyped,unused-ignore]

    executor = loky.ProcessPoolExecutor(workers)
    try:
        yield executor.submit, _result
    finally:
        executor.shutdown()


@contextlib.contextmanager
def joblib_batch(workers: int) -> Iterator[Workers]:
    """joblib takes calls only all at once: they are collected until the first result is asked for.

    With one worker it would call the function itself, so it gets two.
    """
    import joblib  # type: ignore[import-not-found,import-untyped,unused-ignore]

    collected: list[Any] = []
    results: list[Any] = []

    def submit(fn: Callable[..., Any], *items: Any) -> int:
        if results:
            collected.clear()
            results.clear()
        collected.append(joblib.delayed(fn)(*items))
        return len(collected) - 1

    def result(place: int) -> Any:
        if not results:
            results.extend(parallel(collected))
        return results[place]

    with joblib.Parallel(n_jobs=max(workers, 2)) as parallel:
        yield submit, result


@contextlib.contextmanager
def mpire_processes(workers: int) -> Iterator[Workers]:
    import mpire  # type: ignore[import-not-found,import-untyped,unused-ignore]

    with mpire.WorkerPool(workers) as opened:
        yield lambda fn, *items: opened.apply_async(fn, items), _get
        opened.stop_and_join()


@contextlib.contextmanager
def pebble_processes(workers: int) -> Iterator[Workers]:
    import pebble  # type: ignore[import-not-found,import-untyped,unused-ignore]

    with pebble.ProcessPool(workers) as opened:
        yield lambda fn, *items: opened.schedule(fn, args=items), _result


@contextlib.contextmanager
def ray_processes(workers: int) -> Iterator[Workers]:
    import ray  # type: ignore[import-not-found,import-untyped,unused-ignore]

    ray.init(num_cpus=workers, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    remote: dict[Callable[..., Any], Any] = {}

    def submit(fn: Callable[..., Any], *items: Any) -> Any:
        if fn not in remote:
            remote[fn] = ray.remote(fn)
        return remote[fn].remote(*items)

    try:
        yield submit, ray.get
    finally:
        ray.shutdown()


@contextlib.contextmanager
def dask_processes(workers: int) -> Iterator[Workers]:
    import distributed  # type: ignore[import-not-found,import-untyped,unused-ignore]

    with distributed.Client(
        n_workers=workers, threads_per_worker=1, dashboard_address=None, silence_logs="CRITICAL"
    ) as client:
        yield partial(client.submit, pure=False), _result


@contextlib.contextmanager
def pickling(workers: int) -> Iterator[Workers]:
    """No pool at all: what it costs to pickle and unpickle a call and its result, and to run it, in this thread."""
    import pickle

    def submit(fn: Callable[..., Any], *items: Any) -> bytes:
        called, arguments = pickle.loads(pickle.dumps((fn, items), 5))
        return pickle.dumps(called(*arguments), 5)

    yield submit, pickle.loads


@contextlib.contextmanager
def forkright_map() -> Iterator[Map]:
    import forkright as fr

    plan = fr.Plan(processes=PROCESSES)
    yield lambda fn, items: fr.map(fn, items, plan=plan)


@contextlib.contextmanager
def loop() -> Iterator[Map]:
    yield lambda fn, items: list(map(fn, items))


@contextlib.contextmanager
def forkright_auto_map() -> Iterator[Map]:
    import forkright as fr

    yield fr.map


@contextlib.contextmanager
def pool_map(method: Method, chunksize: int | None) -> Iterator[Map]:
    import multiprocessing

    with multiprocessing.get_context(method).Pool(PROCESSES) as opened:
        yield lambda fn, items: opened.map(fn, items, chunksize)


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


@contextlib.contextmanager
def loky_map(chunksize: int) -> Iterator[Map]:
    import loky

    executor = loky.ProcessPoolExecutor(PROCESSES)
    try:
        yield lambda fn, items: list(executor.map(fn, items, chunksize=chunksize))
    finally:
        executor.shutdown()


@contextlib.contextmanager
def joblib_map() -> Iterator[Map]:
    import joblib

    with joblib.Parallel(n_jobs=PROCESSES) as parallel:
        yield lambda fn, items: list(parallel(joblib.delayed(fn)(item) for item in items))


@contextlib.contextmanager
def mpire_map(chunksize: int | None) -> Iterator[Map]:
    import mpire

    with mpire.WorkerPool(PROCESSES, keep_alive=True) as opened:
        yield lambda fn, items: list(opened.map(fn, items, chunk_size=chunksize))


@contextlib.contextmanager
def pebble_map(chunksize: int) -> Iterator[Map]:
    import pebble

    with pebble.ProcessPool(PROCESSES) as opened:
        yield lambda fn, items: list(opened.map(fn, items, chunksize=chunksize).result())


@contextlib.contextmanager
def submitted_map(open_: Open) -> Iterator[Map]:
    """For who has no map of chunks: everything submitted, then all results."""
    with open_(PROCESSES) as (submit, result):
        yield lambda fn, items: [result(handle) for handle in [submit(fn, item) for item in items]]


EXECUTORS: dict[str, Open] = {
    "fr.ProcessPoolExecutor": forkright_processes,
    "fr.ThreadPoolExecutor": forkright_threads,
    "futures, fork": partial(futures_processes, "fork"),
    "futures, forkserver": partial(futures_processes, "forkserver"),
    "futures, spawn": partial(futures_processes, "spawn"),
    "futures, threads": futures_threads,
    "Pool, fork": partial(pool, "fork"),
    "Pool, forkserver": partial(pool, "forkserver"),
    "loky": loky_processes,
    "joblib": joblib_batch,
    "mpire": mpire_processes,
    "pebble": pebble_processes,
    "Ray": ray_processes,
    "Dask": dask_processes,
    "pickling": pickling,
}

MAPS: dict[str, Callable[[], AbstractContextManager[Map]]] = {
    "fr.map": forkright_map,
    "fr.map, auto": forkright_auto_map,
    "list(map())": loop,
    "ThreadPoolExecutor()": partial(futures_threads_map, None),
    "ThreadPoolExecutor(20)": partial(futures_threads_map, 20),
    "joblib map": joblib_map,
    "mpire map": partial(mpire_map, None),
    "Ray map": partial(submitted_map, ray_processes),
    "Dask map": partial(submitted_map, dask_processes),
}
for _size in (100, 1000, 5000):
    MAPS |= {
        f"futures map by {_size}, fork": partial(futures_processes_map, "fork", _size),
        f"futures map by {_size}, forkserver": partial(futures_processes_map, "forkserver", _size),
        f"loky map by {_size}": partial(loky_map, _size),
        f"pebble map by {_size}": partial(pebble_map, _size),
    }
# Without a size, Pool.map makes four chunks for each worker.
for _chunks in (1000, 5000, None, 50_000):
    MAPS |= {
        f"Pool.map{f' by {_chunks}' if _chunks else ''}, fork": partial(pool_map, "fork", _chunks),
        f"Pool.map{f' by {_chunks}' if _chunks else ''}, forkserver": partial(pool_map, "forkserver", _chunks),
    }

# Who needs more than the standard library, with the module: the first word of a contestant.
EXTRA = {
    "loky": "loky",
    "joblib": "joblib",
    "mpire": "mpire",
    "pebble": "pebble",
    "Ray": "ray",
    "Dask": "distributed",
}
# By how much fewer tasks who takes milliseconds for each gets.
FEWER = {"Ray": 20, "Dask": 100}


def package(contestant: str) -> str:
    """The first word of a contestant's name, which is a peer's in `EXTRA` or none."""
    return contestant.partition(" ")[0]


def missing() -> list[str]:
    """The contestants that are not here, by the first word of their names."""
    import forkright as fr

    absent = [name for name, module in EXTRA.items() if importlib.util.find_spec(module) is None]
    return absent if hasattr(fr, "share") else [*absent, "fr.share"]
