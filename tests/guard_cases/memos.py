"""Caches: which of them nobody would miss."""

import functools
from collections.abc import Callable
from typing import Any

from . import keep, move

_squares: dict[int, int] = {}
_cubes: dict[int, int] = {}
hits: dict[int, int] = {}
read_later: dict[int, int] = {}
previous: dict[str, Any] = {"number": None}
results: dict[int, int] = {}


@keep("looks like a memo, but counts")
def counts_hits(number: int) -> int:
    if number not in hits:
        hits[number] = 0
    hits[number] += 1
    return hits[number]


@keep("a memo that another function reads")
def remembers_for_others(number: int) -> int:
    if number not in read_later:
        read_later[number] = number * number
    return read_later[number]


def how_many() -> int:
    return len(read_later)


@keep("remembers the item before")
def remembers_previous(number: int) -> Any:
    before, previous["number"] = previous["number"], number
    return before


@keep("collects results by item, returns nothing")
def stores_result(number: int) -> None:
    results[number] = number**2


@keep("a memo whose values build on each other")
def builds_on_memo(number: int) -> int:
    if number not in results:
        results[number] = sum(results.values()) + number
    return results[number]


@move("a memo by `not in`, that nobody else reads")
def remembers_square(number: int) -> int:
    if number not in _squares:
        _squares[number] = sum(number for _ in range(number))
    return _squares[number]


@move("a memo by try and KeyError")
def remembers_cube(number: int) -> int:
    try:
        return _cubes[number]
    except KeyError:
        pass
    cube = number**3
    _cubes[number] = cube
    return cube


@functools.cache
def _fibonacci(number: int) -> int:
    return number if number < 2 else _fibonacci(number - 1) + _fibonacci(number - 2)


@move("lru_cache on a helper")
def asks_fibonacci(number: int) -> int:
    return _fibonacci(number % 30)


def _memoized(function: Callable[[int], int]) -> Callable[[int], int]:
    known: dict[tuple[int, ...], int] = {}

    @functools.wraps(function)
    def wrapper(*arguments: int) -> int:
        if arguments not in known:
            known[arguments] = function(*arguments)
        return known[arguments]

    return wrapper


@move("a memo decorator with a dict of its own", made=True)
def is_memoized() -> Callable[[int], int]:
    return _memoized(lambda number: sum(range(number)))


@move("a memo made by each call")
def remembers_within(number: int) -> int:
    known: dict[int, int] = {}

    def fibonacci(n: int) -> int:
        if n not in known:
            known[n] = n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)
        return known[n]

    return fibonacci(number % 20)
