"""Short and long items take turns."""

from choice.workloads.calc import work as calc


def work(count: int) -> int:
    return calc(count)


def items(scale: float = 1.0) -> list[int]:
    return [int((200_000 if number % 2 else 10_000) * scale) + number for number in range(60)]
