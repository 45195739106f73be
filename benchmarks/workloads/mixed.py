"""Computes for about 12 ms with the GIL, then sleeps for 12 ms: one half can be overlapped in one process."""

import time

from workloads.calc import calc


def compute_and_sleep(count: int) -> int:
    total = calc(count)
    time.sleep(0.012)
    return total


def items() -> list[int]:
    return [100_000 + number for number in range(40)]
