"""Calls that cost about as much as to hand them over."""


def work(number: int) -> int:
    return sum(map(int, str(number)))


def items(scale: float = 1.0) -> range:
    return range(max(20, int(500_000 * scale)))
