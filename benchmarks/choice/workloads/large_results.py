"""Little work that makes large results: to carry them back costs more than to make them."""


def work(number: int) -> bytes:
    return bytes([number % 251]) * (4_000_000 + number)


def items(scale: float = 1.0) -> list[int]:
    return list(range(max(2, int(180 * scale))))
