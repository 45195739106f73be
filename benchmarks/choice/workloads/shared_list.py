"""Appends to a list of the module: the list must be whole in the calling process."""

from choice.workloads.calc import work as calc

seen: list[int] = []


def work(count: int) -> int:
    seen.append(count)
    return calc(count)


def items(scale: float = 1.0) -> list[int]:
    return [int(250_000 * scale) + number for number in range(24)]


def outcome() -> list[int]:
    return sorted(seen)
