"""Compresses with LZMA: long calls without the GIL."""

import lzma
import random


def work(size: int) -> int:
    return len(lzma.compress(random.Random(size).randbytes(size // 2) * 2, preset=1))


def items(scale: float = 1.0) -> list[int]:
    return [int(400_000 * scale) + number + 2 for number in range(16)]
