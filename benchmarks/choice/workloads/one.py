"""One long item: nothing to run beside it."""

from choice.workloads.calc import work as calc


def work(count: int) -> int:
    return calc(count)


def items(scale: float = 1.0) -> list[int]:
    return [int(6_000_000 * scale) + number for number in range(1)]
