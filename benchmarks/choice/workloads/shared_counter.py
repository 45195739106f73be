"""Adds to a counter under a lock, in the calling process."""

import threading

from choice.workloads.calc import work as calc

lock = threading.Lock()
total = 0


def work(count: int) -> int:
    global total
    value = calc(count)
    with lock:
        total += value
    return value


def items(scale: float = 1.0) -> list[int]:
    return [int(250_000 * scale) + number for number in range(24)]


def outcome() -> int:
    return total
