"""Pure Python arithmetic in items of equal length."""


def calc(count: int) -> int:
    total = 0
    for number in range(count):
        total += number * number % 7
    return total


def items() -> list[int]:
    """24 items of about 30 ms each; no two the same, so that a result in the wrong place shows."""
    return [250_000 + number for number in range(24)]
