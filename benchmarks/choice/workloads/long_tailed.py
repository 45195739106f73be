"""A few items take twenty times as long as the others, some of them near the end."""

from choice.workloads.calc import work as calc

STRAGGLERS = (40, 95, 112)


def work(count: int) -> int:
    return calc(count)


def items(scale: float = 1.0) -> list[int]:
    return [int((800_000 if number in STRAGGLERS else 40_000) * scale) + number for number in range(120)]
