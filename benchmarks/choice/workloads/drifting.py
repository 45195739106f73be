"""Items grow from nothing to forty milliseconds: the first ones tell little of the last ones."""

from choice.workloads.calc import work as calc


def work(count: int) -> int:
    return calc(count)


def items(scale: float = 1.0) -> list[int]:
    return [int(5_000 * number * scale) + number for number in range(60)]
