"""Tasks that have more memory after them than before, as leaks have. Imported by workers, so it imports little."""

from __future__ import annotations

import gc
import time
from typing import Any

import tasks
from waiting import Flag, Tally

MB = 10**6

kept: list[Any] = []


def grow(size: int) -> tuple[int, int]:
    """Have more memory from now on; the process, and how much it has grown in all."""
    kept.append(bytearray(size))
    return tasks.pid(), sum(map(len, kept))


def litter(size: int) -> int:
    """Leave garbage that only a collection removes."""
    gc.disable()
    cycle: list[Any] = [bytearray(size)]
    cycle.append(cycle)
    return tasks.pid()


def mark(tally: Tally, number: int) -> int:
    tally.mark(number)
    return tasks.pid()


def grow_and_mark(tally: Tally, number: int) -> int:
    grow(60 * MB)
    return mark(tally, number)


def grow_beside(started: Flag, go: Flag, size: int) -> int:
    grow(size)
    return tasks.hold(started, go)


def spend(_: int) -> int:
    """Some computing: worth a worker process."""
    until = time.thread_time() + 0.05
    while time.thread_time() < until:
        pass
    return tasks.pid()
