"""Pure Python arithmetic in items of equal length: holds the GIL."""


def work(count: int) -> int:
    total = 0
    for number in range(count):
        total += number * number % 7
    return total


def items(scale: float = 1.0) -> list[int]:
    return [int(250_000 * scale) + number for number in range(24)]
