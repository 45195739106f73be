"""What the measures share. Each is a function of a contestant, a size and a number of timings, and gives figures."""

from __future__ import annotations

import time

import tasks

TYPE_CHECKING = False
if TYPE_CHECKING:
    import peers

# Seconds, bytes or parts of a whole, by name.
Figures = dict[str, list[float]]


def warm_up(workers: peers.Workers, size: int = 200) -> None:
    """Every worker has started and knows the function: what is measured is the steady state."""
    submit_and_take(workers, size)


def submit_and_take(workers: peers.Workers, size: int) -> float:
    """Seconds for so many tasks of next to no work: all submitted, then all results taken."""
    submit, result = workers
    began = time.perf_counter()
    handles = [submit(tasks.increment, number) for number in range(size)]
    results = [result(handle) for handle in handles]
    took = time.perf_counter() - began
    assert results == list(range(1, size + 1))
    return took
