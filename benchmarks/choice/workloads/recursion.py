"""Pure Python function calls: a naive Fibonacci."""


def work(number: int) -> int:
    return number if number < 2 else work(number - 1) + work(number - 2)


def items(scale: float = 1.0) -> list[int]:
    return [(24 if scale >= 1 else 8) + number % 3 for number in range(30)]
