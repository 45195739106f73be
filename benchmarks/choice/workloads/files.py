"""Writes temporary files and reads them again."""

import tempfile


def work(size: int) -> int:
    with tempfile.TemporaryFile() as file:
        for _ in range(20):
            file.write(bytes(size))
        file.seek(0)
        return len(file.read())


def items(scale: float = 1.0) -> list[int]:
    return [int(500_000 * scale) + number for number in range(80)]
