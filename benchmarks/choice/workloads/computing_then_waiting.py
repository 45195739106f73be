"""The first half of the items computes, the second waits."""

from choice.workloads.waiting_then_computing import work

__all__ = ["items", "work"]


def items(scale: float = 1.0) -> list[int]:
    return [int((150_000 if number < 30 else -20_000) * scale) + number for number in range(60)]
