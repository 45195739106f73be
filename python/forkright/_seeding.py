"""`seed=`: each call of a map draws the same random numbers whatever the plan, the chunks and the order.

The global generators of `random` and `numpy.random` can't give that: a process has one of each, from which its threads
draw in turn. So each call is given one of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

try:
    from numpy.random import PCG64, Generator, SeedSequence
except ImportError as error:
    raise ImportError("`seed=` needs NumPy: `pip install numpy`") from error

if TYPE_CHECKING:
    Seed = int | list[int] | tuple[int, ...] | SeedSequence

R = TypeVar("R")


class Seeds:
    """What the calls of one map draw from: call ``i`` from ``default_rng(SeedSequence(seed).spawn(n)[i])``."""

    __slots__ = ("_entropy", "_first", "_key", "_pool_size")

    def __init__(self, seed: Seed) -> None:
        root = seed if isinstance(seed, SeedSequence) else SeedSequence(_entropy(seed))
        self._entropy: Any = root.entropy
        self._key, self._pool_size = root.spawn_key, root.pool_size
        # A sequence that has spawned goes on where it is, and stays there: the map changes nothing of the caller's.
        self._first = root.n_children_spawned

    def generator(self, index: int) -> Generator:
        """That of one call, as good as new."""
        key = (*self._key, self._first + index)
        return Generator(PCG64(SeedSequence(self._entropy, spawn_key=key, pool_size=self._pool_size)))

    def call(self, fn: Callable[..., R], index: int, arguments: tuple[Any, ...]) -> R:
        """Make one call."""
        return fn(*arguments, rng=self.generator(index))

    def call_each(self, fn: Callable[..., R], items: Iterator[Any], results: list[R], star: bool, start: int) -> None:
        """As `_map.call_each`; `start` is the index of what the first result is of."""
        for item in items:
            results.append(self.call(fn, start + len(results), item if star else (item,)))

    def parcels(self, items: list[Any], star: bool, start: int) -> list[tuple[tuple[Any, ...], dict[str, Any]]]:
        """The arguments of calls in a worker process, where the generators are made."""
        calls = enumerate(items, start)
        return [(item if star else (item,), {"rng": _Unmade(self, index)}) for index, item in calls]


class _Unmade:
    """Becomes a generator when it is unpickled."""

    __slots__ = ("_index", "_seeds")

    def __init__(self, seeds: Seeds, index: int) -> None:
        self._seeds, self._index = seeds, index

    def __reduce__(self) -> tuple[Callable[[Seeds, int], Generator], tuple[Seeds, int]]:
        return Seeds.generator, (self._seeds, self._index)


def _entropy(seed: object) -> int | list[int]:
    """What a `SeedSequence` begins with.

    Raises:
        ValueError, TypeError: If it is none.
    """
    words = seed if isinstance(seed, (list, tuple)) else (seed,)
    if any(isinstance(word, bool) or not hasattr(type(word), "__index__") for word in words):
        raise TypeError(f"seed must be an integer, several, a numpy.random.SeedSequence or None, not {seed!r}")
    numbers = [word.__index__() for word in words]  # pyright: ignore[reportAttributeAccessIssue]
    if any(number < 0 for number in numbers):
        raise ValueError(f"seed must not be negative, as {seed!r} is")
    return numbers if isinstance(seed, (list, tuple)) else numbers[0]
