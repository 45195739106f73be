"""Tasks that do nothing: what it costs to hand one over, and to have its result."""

from __future__ import annotations

import ctypes
import time
from pathlib import Path

import peers
import tasks
from measures.shape import Figures, submit_and_take, warm_up

SUBMITTERS = 4
PINGPONG = "futex ping-pong"


def stream(contestant: str, size: int, repeats: int) -> Figures:
    """Submits all, then takes all results; per task."""
    workers = peers.THREADS if "hread" in contestant else peers.PROCESSES
    with peers.EXECUTORS[contestant](workers) as opened:
        warm_up(opened)
        return {"task": [submit_and_take(opened, size) / size for _ in range(repeats)]}


def submitters(contestant: str, size: int, repeats: int) -> Figures:
    """The same from one thread and from four at once, in turn on the same workers; per task."""
    found: Figures = {"one": [], "four": []}
    with peers.EXECUTORS[contestant](peers.PROCESSES) as workers:
        warm_up(workers)
        for turn in range(repeats):
            # Who begins takes turns, too: what one leaves behind must not always meet the other.
            for name, threads in (("one", 1), ("four", SUBMITTERS))[:: 1 if turn % 2 else -1]:
                found[name].append(_from_threads(workers, threads, size) / size)
    return found


def latency(contestant: str, size: int, repeats: int) -> Figures:
    """One task at a time, from `submit` to its result."""
    if contestant == PINGPONG:
        return {"task": _play(size)}
    found: list[float] = []
    workers = peers.THREADS if "hread" in contestant else peers.PROCESSES
    with peers.EXECUTORS[contestant](workers) as (submit, result):
        warm_up((submit, result))
        for number in range(size):
            began = time.perf_counter()
            answer = result(submit(tasks.increment, number))
            found.append(time.perf_counter() - began)
            assert answer == number + 1
    return {"task": found}


def map_(contestant: str, size: int, repeats: int) -> Figures:
    """Maps a tiny function on workers that have started; per item."""
    found = []
    with peers.MAPS[contestant]() as map:
        map(tasks.increment, range(1000))
        for _ in range(repeats):
            began = time.perf_counter()
            results = map(tasks.increment, range(size))
            found.append((time.perf_counter() - began) / size)
            assert results == list(range(1, size + 1))
    return {"item": found}


def waits(contestant: str, size: int, repeats: int) -> Figures:
    """So many waits of 50 ms, with the start of the threads, without the library's import."""
    items = [0.05] * size
    with peers.MAPS[contestant]() as map:
        began = time.perf_counter()
        results = map(tasks.wait, items)
        took = time.perf_counter() - began
    assert results == items
    return {"all": [took]}


def tiny(contestant: str, size: int, repeats: int) -> Figures:
    """Maps of 1, 10, 100 and 1000 trivial calls, each in turn with the loop that would do."""
    figures: Figures = {}
    with peers.MAPS[contestant]() as map_:
        for count in (1, 10, 100, 1000):
            items = list(range(count))
            mapped = figures[f"{count}"] = []
            looped = figures[f"{count} in a loop"] = []
            for _ in range(repeats):
                began = time.perf_counter()
                expected = list(map(tasks.increment, items))
                between = time.perf_counter()
                results = map_(tasks.increment, items)
                mapped.append(time.perf_counter() - between)
                looped.append(between - began)
                assert results == expected
    return figures


def sleepers(contestant: str, size: int, repeats: int) -> Figures:
    """So many tasks of 50 ms on 256 threads that have to start; `ideal` is if nothing but the sleep took time."""
    threads, seconds = 256, 0.05
    with peers.EXECUTORS[contestant](threads) as (submit, result):
        began = time.perf_counter()
        handles = [submit(tasks.wait, seconds) for _ in range(size)]
        for handle in handles:
            result(handle)
        took = time.perf_counter() - began
    return {"all": [took], "ideal": [size / threads * seconds]}


def _play(trips: int) -> list[float]:
    from meter import library

    play = ctypes.CDLL(str(library.build("pingpong", Path(__file__).resolve().parent.parent))).play
    # The first ones warm up, as the pools do.
    nanoseconds = (ctypes.c_uint64 * (trips + 200))()
    if play(len(nanoseconds), nanoseconds) != 0:
        raise OSError("no memory or no process for the ping-pong")
    return [value / 1e9 for value in nanoseconds[200:]]


def _from_threads(workers: peers.Workers, threads: int, size: int) -> float:
    """Each thread submits its part and takes its results; seconds from the first that begins to the last that ends.

    A single submitter is a thread of its own as well, or what threads cost would count as contention.
    """
    import threading

    gate = threading.Barrier(threads)
    began: list[float] = []
    ended: list[float] = []

    def work() -> None:
        gate.wait()
        began.append(time.perf_counter())
        submit_and_take(workers, size // threads)
        ended.append(time.perf_counter())

    started = [threading.Thread(target=work) for _ in range(threads)]
    for thread in started:
        thread.start()
    for thread in started:
        thread.join()
    assert len(ended) == threads, "a submitter failed"
    return max(ended) - min(began)
