"""Large arguments with little to do: to carry an item elsewhere costs more than to work on it."""

import random


def work(text: bytes) -> int:
    return text.count(b"\n", 0, len(text) // 8)


def items(scale: float = 1.0) -> list[bytes]:
    """960 texts of 8 MB; eight different ones take turns, so that they need 64 MB and not 7.7 GB."""
    size = max(64, int(1_000_000 * scale))
    return [random.Random(seed).randbytes(size) * 8 for seed in range(8)] * 120
