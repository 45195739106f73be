"""Unpicklable pieces: each item holds a lock and a generator."""

import threading

from choice.workloads.calc import work as calc


class Guarded:
    def __init__(self, count: int) -> None:
        self.lock = threading.Lock()
        self.counts = (count for _ in range(1))


def work(item: Guarded) -> int:
    with item.lock:
        return calc(next(item.counts))


def items(scale: float = 1.0) -> list[Guarded]:
    return [Guarded(int(250_000 * scale) + number) for number in range(24)]
