"""The classic: one thread per core, each taking 4 million square roots, with the standard library alone.

It knows nothing of forkright. `forkright why examples/threads.py` tells why it is no faster than a plain loop.
"""

import math
import os
import threading


def calc() -> float:
    """The sum of the square roots of 4 million numbers."""
    total = 0.0
    for number in range(4_000_000):
        total += math.sqrt(number)
    return total


if __name__ == "__main__":
    threads = [threading.Thread(target=calc) for _ in range(len(os.sched_getaffinity(0)))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(f"{len(threads)} threads are done")
