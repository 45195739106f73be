"""Items sorted with the largest first, as a careful user would hand them over."""

from choice.workloads.calc import work as calc


def work(count: int) -> int:
    return calc(count)


def items(scale: float = 1.0) -> list[int]:
    return [int(5_000 * (60 - number) * scale) + number for number in range(60)]
