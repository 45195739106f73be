"""NumPy on large arrays: computes without the GIL."""

import numpy as np


def work(size: int) -> float:
    values = np.arange(float(size))
    return float(np.sin(values).sum() + np.sqrt(values).sum())


def items(scale: float = 1.0) -> list[int]:
    return [int(1_500_000 * scale) + number + 1 for number in range(24)]
