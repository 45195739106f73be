"""Three long items: on two cores one of them is left over."""

from choice.workloads.calc import work as calc


def work(count: int) -> int:
    return calc(count)


def items(scale: float = 1.0) -> list[int]:
    return [int(2_000_000 * scale) + number for number in range(3)]
