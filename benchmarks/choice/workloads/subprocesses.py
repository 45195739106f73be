"""Starts programs and waits for them."""

import subprocess
import sys


def work(number: int) -> str:
    done = subprocess.run([sys.executable, "-ISc", f"print({number} * 2)"], capture_output=True, check=True)
    return done.stdout.decode()


def items(scale: float = 1.0) -> list[int]:
    return list(range(max(2, int(36 * scale))))
