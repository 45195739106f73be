"""Checksums of large buffers: `hashlib` computes without the GIL."""

import hashlib
import random

SIZE = 8 << 20


def checksum(buffer: bytes) -> str:
    return hashlib.sha256(buffer).hexdigest()


def items() -> list[bytes]:
    """120 buffers of 8 MiB; eight different ones take turns, so that they need 64 MiB and not 960 MiB."""
    block = 1 << 20
    different = [random.Random(seed).randbytes(block) * (SIZE // block) for seed in range(8)]
    return different * 15
