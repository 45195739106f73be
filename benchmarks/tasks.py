"""What workers run in `run.py`'s comparisons: as little as possible, so that the handing over is what is measured.

A module of its own: whatever way a worker starts, it can import this.
"""

from __future__ import annotations

import functools
import os
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def increment(number: int) -> int:
    return number + 1


def wait(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


def nothing() -> None:
    pass


def touch(array: Any) -> float:
    """Reads of an array, or of bytes, what shows that it has arrived."""
    return float(array[0] + array[-1])


def echo(array: Any) -> Any:
    return array


def give(size: int) -> Any:
    """An array that is made once in each worker. For some peers what they call must have been written in Python."""
    return _made(size)


def prepare(size: int) -> None:
    """Has the worker make what `give` gives."""
    give(size)


def worker() -> int:
    """Who runs this; `os.getpid` itself, for those who take no function of C."""
    return os.getpid()


def meet(directory: str) -> None:
    """Says that it has begun, and waits until it may end: whoever has begun so many tasks has as many workers."""
    with open(f"{directory}/here", "wb", buffering=0) as here:
        here.write(b".")
    with open(f"{directory}/go", "rb", buffering=0) as go:
        go.read(1)


@functools.cache
def _made(size: int) -> Any:
    import numpy

    return numpy.ones(size // 8)
