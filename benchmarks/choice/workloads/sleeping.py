"""Waits, and computes nothing."""

import time


def work(milliseconds: float) -> float:
    time.sleep(milliseconds / 1e3)
    return milliseconds


def items(scale: float = 1.0) -> list[float]:
    return [20 * scale + number / 100 for number in range(40)]
