"""Checksums of large buffers: large arguments, and `hashlib` computes without the GIL."""

import hashlib
import random


def work(buffer: bytes) -> str:
    return hashlib.sha256(buffer).hexdigest()


def items(scale: float = 1.0) -> list[bytes]:
    """120 buffers of 8 MiB; eight different ones take turns, so that they need 64 MiB and not 960 MiB."""
    size = max(64, int((1 << 20) * scale))
    return [random.Random(seed).randbytes(size) * 8 for seed in range(8)] * 15
