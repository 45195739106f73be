"""Five thousand items of a quarter of a millisecond: worth moving only in chunks."""

from choice.workloads.calc import work as calc


def work(count: int) -> int:
    return calc(count)


def items(scale: float = 1.0) -> list[int]:
    return [int(2_500 * scale) + number % 50 for number in range(5000)]
