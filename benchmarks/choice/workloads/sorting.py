"""Sorts lists of numbers: one call that holds the GIL for a long time."""

import random


def work(count: int) -> int:
    drawn = random.Random(count)
    return sorted(drawn.random() for _ in range(count))[count // 2].__hash__()


def items(scale: float = 1.0) -> list[int]:
    return [int(60_000 * scale) + number + 1 for number in range(24)]
