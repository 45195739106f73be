"""Another module of the same program, for the cases that reach across."""

entries: list[int] = []
latest = None
FACTOR = 3


def enter(number: int) -> None:
    entries.append(number)


def scaled(number: int) -> int:
    return number * FACTOR
