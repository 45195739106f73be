"""Compresses with zlib, which releases the GIL."""

import random
import zlib


def work(size: int) -> int:
    return zlib.crc32(zlib.compress(random.Random(size).randbytes(1000) * (size // 1000 + 1), 9))


def items(scale: float = 1.0) -> list[int]:
    return [int(4_000_000 * scale) + number for number in range(40)]
