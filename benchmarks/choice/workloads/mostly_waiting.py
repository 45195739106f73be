"""Computes for about a tenth of its time with the GIL, and waits for the rest."""

import time

from choice.workloads.calc import work as calc


def work(count: int) -> int:
    total = calc(count)
    time.sleep(0.025)
    return total


def items(scale: float = 1.0) -> list[int]:
    return [int(20_000 * scale) + number for number in range(40)]
