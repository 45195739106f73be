"""Hashes a password slowly: computes without the GIL."""

import hashlib


def work(rounds: int) -> str:
    return hashlib.pbkdf2_hmac("sha256", b"secret", b"salt", rounds).hex()


def items(scale: float = 1.0) -> list[int]:
    return [int(50_000 * scale) + number + 1 for number in range(24)]
