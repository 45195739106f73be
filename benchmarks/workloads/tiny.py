"""Calls that cost about as much as to hand them over."""


def digit_sum(number: int) -> int:
    return sum(map(int, str(number)))


def items() -> range:
    return range(500_000)
