"""What it takes to begin: the first result, further workers, single processes and threads."""

from __future__ import annotations

import os
import time

import peers
import tasks
from measures.shape import Figures

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Start = Callable[[], object]


def cold(contestant: str, size: int, repeats: int) -> Figures:
    """From the library's import to the first result of a worker, for a function that a worker can import."""
    return {"first": [_first_result(contestant, tasks.increment)]}


def cold_by_value(contestant: str, size: int, repeats: int) -> Figures:
    """The same for a function that has to travel itself."""
    return {"first": [_first_result(contestant, lambda number: number + 1)]}


def workers(contestant: str, size: int, repeats: int) -> Figures:
    """After a first pool has come and gone: until so many workers of another all run a task, and each further one."""
    import tempfile

    open_ = peers.EXECUTORS[contestant]
    with open_(1) as (submit, result):
        result(submit(tasks.increment, 1))
    with tempfile.TemporaryDirectory() as directory:
        for name in ("here", "go"):
            os.mkfifo(f"{directory}/{name}")
        # Open both ways, so that nobody who opens an end waits for the other.
        here, go = (os.open(f"{directory}/{name}", os.O_RDWR) for name in ("here", "go"))
        began = time.perf_counter()
        with open_(size) as (submit, result):
            handles = [submit(tasks.meet, directory) for _ in range(size)]
            arrivals = []
            while len(arrivals) < size:
                arrivals.extend([time.perf_counter() - began] * len(os.read(here, size)))
            os.write(go, bytes(size))
            for handle in handles:
                result(handle)
        os.close(here)
        os.close(go)
    return {"all": arrivals[-1:], "each": [(arrivals[-1] - arrivals[0]) / (size - 1)]}


def start_and_join(contestant: str, size: int, repeats: int) -> Figures:
    """One process or thread after another, from its making to the end of `join`."""
    start = STARTS[contestant]()
    start()
    found = []
    for _ in range(size):
        began = time.perf_counter()
        start()
        found.append(time.perf_counter() - began)
    return {"one": found}


def _first_result(contestant: str, function: Callable[[int], int]) -> float:
    began = time.perf_counter()
    with peers.EXECUTORS[contestant](peers.PROCESSES) as (submit, result):
        answer = result(submit(function, 1))
        took = time.perf_counter() - began
    assert answer == 2
    return took


def _of_forkright(name: str) -> Start:
    import forkright as fr

    return _starter(getattr(fr, name))


def _of_threading() -> Start:
    import threading

    return _starter(threading.Thread)


def _of_multiprocessing(method: str) -> Start:
    import multiprocessing

    return _starter(multiprocessing.get_context(method).Process)  # type: ignore[attr-defined]


def _starter(kind: Callable[..., object]) -> Start:
    def start() -> None:
        one = kind(target=tasks.nothing)
        one.start()  # type: ignore[attr-defined]
        one.join()  # type: ignore[attr-defined]

    return start


STARTS: dict[str, Callable[[], Start]] = {
    "fr.Process": lambda: _of_forkright("Process"),
    "fr.Thread": lambda: _of_forkright("Thread"),
    "threading.Thread": _of_threading,
    "Process, fork": lambda: _of_multiprocessing("fork"),
    "Process, forkserver": lambda: _of_multiprocessing("forkserver"),
    "Process, spawn": lambda: _of_multiprocessing("spawn"),
}
