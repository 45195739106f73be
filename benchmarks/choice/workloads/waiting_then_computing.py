"""The first half of the items waits, the second computes: the nature of the work changes."""

import time

from choice.workloads.calc import work as calc


def work(count: int) -> int:
    if count < 0:
        time.sleep(-count / 1e6)
        return count
    return calc(count)


def items(scale: float = 1.0) -> list[int]:
    return [int((-20_000 if number < 30 else 150_000) * scale) + number for number in range(60)]
