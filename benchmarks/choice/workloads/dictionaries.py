"""Counts words in a dictionary, in pure Python."""


def work(count: int) -> list[int]:
    counted: dict[int, int] = {}
    for number in range(count):
        key = number * 7919 % 1009
        counted[key] = counted.get(key, 0) + 1
    return sorted(counted.values())[-3:]


def items(scale: float = 1.0) -> list[int]:
    return [int(200_000 * scale) + number for number in range(24)]
