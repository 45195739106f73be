"""Two long items: one for each of two cores."""

from choice.workloads.calc import work as calc


def work(count: int) -> int:
    return calc(count)


def items(scale: float = 1.0) -> list[int]:
    return [int(3_000_000 * scale) + number for number in range(2)]
