"""Large arguments with little to do: to carry an item elsewhere costs more than to work on it."""

import random

SIZE = 8_000_000
LOOKED_AT = 1_000_000


def count_lines(text: bytes) -> int:
    """The lines in the first eighth of the text; holds the GIL for less than a millisecond."""
    return text.count(b"\n", 0, LOOKED_AT)


def items() -> list[bytes]:
    """160 texts of 8 MB; eight different ones take turns, so that they need 64 MB and not 1.3 GB."""
    different = [random.Random(seed).randbytes(LOOKED_AT) * (SIZE // LOOKED_AT) for seed in range(8)]
    return different * 20
