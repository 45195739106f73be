"""What `threads.py` should have been: one process per core, each taking 4 million square roots.

It knows nothing of forkright either. `forkright why examples/processes.py` measures each of the processes.
"""

import math
import multiprocessing
import os


def calc() -> float:
    """The sum of the square roots of 4 million numbers."""
    total = 0.0
    for number in range(4_000_000):
        total += math.sqrt(number)
    return total


if __name__ == "__main__":
    processes = [multiprocessing.Process(target=calc) for _ in range(len(os.sched_getaffinity(0)))]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    print(f"{len(processes)} processes are done")
