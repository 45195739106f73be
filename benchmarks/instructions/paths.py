"""The hot paths, one after another, under callgrind, which writes the counts: `count.py` runs this.

What would make the counts differ from run to run is kept out: threads take turns only where they wait, and whoever
asks for a result finds it there.
"""

from __future__ import annotations

import ctypes
import functools
import os
import pickle
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent))

import tasks

TYPE_CHECKING = False
if TYPE_CHECKING:
    import forkright as fr

BATCH, BATCHES = 100, 20
TASKS = BATCH * BATCHES
ITEMS = 20_000

# What is counted, and how often each is done.
PATHS = {
    "pickling": TASKS,
    "submit and result, threads": TASKS,
    "submit and result, processes": TASKS,
    # It is not told when the caller begins again.
    "a task in a worker process": 2 * TASKS,
    "map, threads": ITEMS,
    "map, processes": ITEMS,
}


def main() -> None:
    import forkright as fr

    sys.setswitchinterval(100)
    count("pickling", pickle_and_unpickle)
    threads = fr.ThreadPoolExecutor(1)
    count("submit and result, threads", lambda: submit_and_result(threads))
    executor = fr.ProcessPoolExecutor(1)
    submit_and_result(executor)
    executor.submit(begin).result()
    count("submit and result, processes", lambda: submit_and_result(executor))
    executor.submit(end, "a task in a worker process").result()
    count("map, threads", lambda: fr.map(tasks.increment, range(ITEMS), plan=fr.Plan(threads=1)))
    # Chunks of a size that does not follow from how long items take.
    processes = fr.Plan(processes=1)
    count("map, processes", lambda: fr.map(tasks.increment, range(ITEMS), plan=processes, chunksize=1000))
    # Nothing is closed: that would wait for the worker's end, which nobody notices here, see under_valgrind/.
    os._exit(0)


def count(name: str, path: Callable[[], object]) -> None:
    path()
    begin()
    path()
    end(name)


def pickle_and_unpickle() -> None:
    """What each call and its result need on their way to another process, and nothing else."""
    for number in range(TASKS):
        function, arguments = pickle.loads(pickle.dumps((tasks.increment, (number,)), 5))
        pickle.loads(pickle.dumps(function(*arguments), 5))


def submit_and_result(executor: fr.Executor) -> None:
    for _ in range(BATCHES):
        futures = [executor.submit(tasks.increment, number) for number in range(BATCH)]
        time.sleep(0.05)
        for future in futures:
            future.result()


@functools.cache
def marks() -> ctypes.CDLL:
    return ctypes.CDLL(sys.argv[1])


def begin() -> None:
    marks().begin()


def end(name: str) -> None:
    marks().end(name.encode())


if __name__ == "__main__":
    main()
