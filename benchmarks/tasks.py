"""What workers run in `run.py`'s comparisons: as little as possible, so that the handing over is what is measured.

A module of its own: whatever way a worker starts, it can import this.
"""

import time


def increment(number: int) -> int:
    return number + 1


def wait(seconds: float) -> float:
    time.sleep(seconds)
    return seconds
