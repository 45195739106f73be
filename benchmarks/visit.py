"""One timing of one contestant, in an interpreter of its own: `run.py` starts this with a request in JSON.

Answers with the timings in seconds, by name. Imports next to nothing, so that a cold start is one.
"""

from __future__ import annotations

import json
import sys
import time

import peers
import tasks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Timings = dict[str, list[float]]

SUBMITTERS = 4


def stream(contestant: str, size: int, repeats: int) -> Timings:
    """Submits all, then takes all results; per task."""
    with peers.EXECUTORS[contestant]() as workers:
        _warm_up(workers)
        return {"task": [_submit_and_take(workers, size) / size for _ in range(repeats)]}


def submitters(contestant: str, size: int, repeats: int) -> Timings:
    """The same from one thread and from four at once, in turn on the same workers; per task."""
    timings: Timings = {"one": [], "four": []}
    with peers.EXECUTORS[contestant]() as workers:
        _warm_up(workers)
        for turn in range(repeats):
            # Who begins takes turns, too: what one leaves behind must not always meet the other.
            for name, threads in (("one", 1), ("four", SUBMITTERS))[:: 1 if turn % 2 else -1]:
                timings[name].append(_from_threads(workers, threads, size) / size)
    return timings


def latency(contestant: str, size: int, repeats: int) -> Timings:
    """One task at a time, from `submit` to its result."""
    timings: list[float] = []
    with peers.EXECUTORS[contestant]() as (submit, result):
        _warm_up(peers.Workers(submit, result))
        for number in range(size):
            began = time.perf_counter()
            answer = result(submit(tasks.increment, number))
            timings.append(time.perf_counter() - began)
            assert answer == number + 1
    return {"task": timings}


def map_(contestant: str, size: int, repeats: int) -> Timings:
    """Maps a tiny function on workers that have started; per item."""
    timings = []
    with peers.MAPS[contestant]() as map:
        map(tasks.increment, range(1000))
        for _ in range(repeats):
            began = time.perf_counter()
            results = map(tasks.increment, range(size))
            timings.append((time.perf_counter() - began) / size)
            assert results == list(range(1, size + 1))
    return {"item": timings}


def cold(contestant: str, size: int, repeats: int) -> Timings:
    """From the library's import to the first result of a worker."""
    began = time.perf_counter()
    with peers.EXECUTORS[contestant]() as (submit, result):
        answer = result(submit(tasks.increment, 1))
        took = time.perf_counter() - began
    assert answer == 2
    return {"first": [took]}


def waits(contestant: str, size: int, repeats: int) -> Timings:
    """So many waits of 50 ms, with the start of the threads, without the library's import."""
    items = [0.05] * size
    with peers.MAPS[contestant]() as map:
        began = time.perf_counter()
        results = map(tasks.wait, items)
        took = time.perf_counter() - began
    assert results == items
    return {"all": [took]}


def tiny(contestant: str, size: int, repeats: int) -> Timings:
    """Maps of 1, 10, 100 and 1000 trivial calls, each in turn with the loop that would do."""
    timings: Timings = {}
    with peers.MAPS[contestant]() as map_:
        for count in (1, 10, 100, 1000):
            items = list(range(count))
            mapped = timings[f"{count}"] = []
            looped = timings[f"{count} in a loop"] = []
            for _ in range(repeats):
                began = time.perf_counter()
                expected = list(map(tasks.increment, items))
                between = time.perf_counter()
                results = map_(tasks.increment, items)
                mapped.append(time.perf_counter() - between)
                looped.append(between - began)
                assert results == expected
    return timings


MEASURES: dict[str, Callable[[str, int, int], Timings]] = {
    "stream": stream,
    "submitters": submitters,
    "latency": latency,
    "map": map_,
    "cold": cold,
    "waits": waits,
    "tiny": tiny,
}


def _warm_up(workers: peers.Workers) -> None:
    """Every worker has started and knows the function: what is measured is the steady state."""
    _submit_and_take(workers, 200)


def _submit_and_take(workers: peers.Workers, size: int) -> float:
    submit, result = workers
    began = time.perf_counter()
    handles = [submit(tasks.increment, number) for number in range(size)]
    results = [result(handle) for handle in handles]
    took = time.perf_counter() - began
    assert results == list(range(1, size + 1))
    return took


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
        _submit_and_take(workers, size // threads)
        ended.append(time.perf_counter())

    started = [threading.Thread(target=work) for _ in range(threads)]
    for thread in started:
        thread.start()
    for thread in started:
        thread.join()
    assert len(ended) == threads, "a submitter failed"
    return max(ended) - min(began)


def main() -> None:
    request = json.loads(sys.argv[1])
    measure = MEASURES[request["measure"]]
    print(json.dumps({"timings": measure(request["contestant"], request["size"], request["repeats"])}))


if __name__ == "__main__":
    main()
