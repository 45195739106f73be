"""Checksums of large buffers: a task computes, but in C and without the GIL.

`hashlib` lets go of the GIL while it works, so threads use every core and the buffers stay where they are.
Processes would use the cores as well, but only after the buffers have been carried to them. Expect threads,
one per core.
"""

import hashlib
import random

import forkright as fr

SIZE = 32 << 20


def checksum(buffer: bytes) -> str:
    """The SHA-256 of one buffer."""
    return hashlib.sha256(buffer).hexdigest()


def items() -> list[bytes]:
    """48 buffers of 32 MiB; four different ones take turns, so that they need 128 MiB and not 1.5 GiB."""
    block = 1 << 20
    different = [random.Random(seed).randbytes(block) * (SIZE // block) for seed in range(4)]
    return different * 12


if __name__ == "__main__":
    for digest in sorted(set(fr.map(checksum, items()))):
        print(digest)
    print(fr.report())
