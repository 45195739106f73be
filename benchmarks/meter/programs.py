"""Programs whose slow-down `overhead.py` measures. Each does a fixed amount of work, about three seconds of it.

    PYTHONPATH=benchmarks python benchmarks/meter/programs.py NAME [--knock]

Prints the seconds from before its first thread starts until the last has ended. `--knock` has gilknocker, which works
from inside a program, beside the threads.
"""

from __future__ import annotations

import contextlib
import json
import sys
import threading
import time
from collections.abc import Iterator
from typing import NamedTuple

from meter import workloads

KNOCK_MICROSECONDS = 1000


class Program(NamedTuple):
    """So many threads with the same workload, each so many times."""

    what: str
    threads: int
    workload: workloads.Workload
    repeats: int


PROGRAMS = {
    "python": Program("1 thread, pure Python", 1, workloads.python, 2400),
    "python-2": Program("2 threads, pure Python", 2, workloads.python, 1200),
    "mixed-2": Program("2 threads, hashing and Python", 2, workloads.hash_then_python, 1000),
    "io-8": Program("8 threads, I/O and some Python", 8, workloads.fetch_then_parse, 400),
}


def run(program: Program) -> float:
    """Seconds of all its work."""
    steps = [program.workload() for _ in range(program.threads)]

    def work(step: workloads.Step) -> None:
        for _ in range(program.repeats):
            step()

    threads = [threading.Thread(target=work, args=(step,)) for step in steps]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.perf_counter() - began


@contextlib.contextmanager
def knocking() -> Iterator[None]:
    """gilknocker asks for the GIL once in a millisecond."""
    import gilknocker  # type: ignore[import-not-found,import-untyped,unused-ignore]

    knocker = gilknocker.KnockKnock(KNOCK_MICROSECONDS)
    knocker.start()
    yield
    knocker.stop()


def main() -> None:
    program = PROGRAMS[sys.argv[1]]
    with knocking() if "--knock" in sys.argv else contextlib.nullcontext():
        seconds = run(program)
    print(json.dumps({"seconds": seconds}))


if __name__ == "__main__":
    main()
