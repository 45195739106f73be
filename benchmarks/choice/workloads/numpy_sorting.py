"""NumPy sorts large arrays without the GIL."""

import numpy as np


def work(size: int) -> float:
    return float(np.sort(np.random.default_rng(size).random(size))[size // 2])


def items(scale: float = 1.0) -> list[int]:
    return [int(900_000 * scale) + number + 1 for number in range(24)]
