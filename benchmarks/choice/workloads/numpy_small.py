"""Many NumPy calls on small arrays: mostly the interpreter's work."""

import numpy as np


def work(count: int) -> float:
    values = np.arange(16.0)
    for _ in range(count):
        values = np.sqrt(values + 1.0)
    return float(values.sum())


def items(scale: float = 1.0) -> list[int]:
    return [int(15_000 * scale) + number for number in range(24)]
