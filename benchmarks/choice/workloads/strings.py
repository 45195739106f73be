"""Pure Python that builds many small strings."""


def work(count: int) -> int:
    return sum(len(f"{number:x}-{number}") for number in range(count))


def items(scale: float = 1.0) -> list[int]:
    return [int(100_000 * scale) + number for number in range(24)]
