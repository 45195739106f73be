"""A whole map of a third of a second: a worker's start is a large share of it."""

from choice.workloads.calc import work as calc


def work(count: int) -> int:
    return calc(count)


def items(scale: float = 1.0) -> list[int]:
    return [int(250_000 * scale) + number for number in range(14)]
