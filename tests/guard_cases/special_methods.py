"""Properties, descriptors, operators and contexts: code that runs without being called by name."""

from collections.abc import Callable
from typing import Any

from . import keep, move

journal: list[Any] = []


class Thermometer:
    @property
    def degrees(self) -> int:
        return self._degrees

    @degrees.setter
    def degrees(self, value: int) -> None:
        self._degrees = value
        journal.append(value)


@keep("a property's setter writes to a global")
def sets_property(number: int) -> int:
    thermometer = Thermometer()
    thermometer.degrees = number
    return thermometer.degrees


class Watched:
    @property
    def value(self) -> int:
        journal.append("read")
        return 1


@keep("a property's getter writes to a global")
def reads_property(number: int) -> int:
    return Watched().value + number


class Shelf:
    def __init__(self) -> None:
        self.things: dict[Any, Any] = {}

    def __setitem__(self, key: Any, thing: Any) -> None:
        self.things[key] = thing

    def __getitem__(self, key: Any) -> Any:
        return self.things[key]


shelf = Shelf()


@keep("item assignment on an object that defines it")
def shelves(number: int) -> int:
    shelf[number] = number * 2
    return number


class Weight:
    def __init__(self, grams: int) -> None:
        self.grams = grams

    def __lt__(self, other: "Weight") -> bool:
        journal.append(self.grams)
        return self.grams < other.grams

    def __add__(self, other: "Weight") -> "Weight":
        journal.append("sum")
        return Weight(self.grams + other.grams)


@keep("sorting runs __lt__, which writes to a global")
def sorts_weights(number: int) -> int:
    return sorted([Weight(3), Weight(number)])[0].grams


@keep("`+` runs __add__, which writes to a global")
def adds_weights(number: int) -> int:
    return (Weight(3) + Weight(number)).grams


class Section:
    def __enter__(self) -> "Section":
        journal.append("in")
        return self

    def __exit__(self, *error: object) -> None:
        return None


@keep("entering a context writes to a global")
def enters_section(number: int) -> int:
    with Section():
        return number + 1


class Leaving(Section):
    def __enter__(self) -> "Leaving":
        return self

    def __exit__(self, *error: object) -> None:
        journal.append("out")


@keep("leaving a context writes to a global")
def leaves_section(number: int) -> int:
    with Leaving():
        return number + 1


class Counting:
    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, number: int) -> int:
        self.calls += 1
        return number


@keep("is an object that counts its calls", made=True)
def is_callable_object() -> Callable[[int], int]:
    return Counting()


class Recorder:
    def __getattr__(self, name: str) -> int:
        journal.append(name)
        return len(name)


recorder = Recorder()


@keep("__getattr__ records what is asked for")
def asks_recorder(number: int) -> int:
    return recorder.anything + number


class Meter:
    def __init__(self) -> None:
        self.reads = 0

    def __get__(self, instance: object, owner: type | None = None) -> int:
        self.reads += 1
        return 5


class Metered:
    meter = Meter()


@keep("a descriptor counts how often it is read")
def reads_meter(number: int) -> int:
    return Metered().meter + number


class Announced(type):
    def __call__(cls, *arguments: Any) -> Any:
        journal.append(cls.__name__)
        return super().__call__(*arguments)


class Guest(metaclass=Announced):
    def __init__(self, number: int) -> None:
        self.number = number


@keep("the metaclass records each instance")
def announces_guest(number: int) -> int:
    return Guest(number).number


class Matrix:
    def __init__(self, rows: list[list[int]]) -> None:
        self.rows = rows

    def __mul__(self, other: "Matrix") -> "Matrix":
        return Matrix([[sum(a * b for a, b in zip(r, c)) for c in zip(*other.rows)] for r in self.rows])

    def __imul__(self, by: int) -> "Matrix":
        self.rows = [[v * by for v in row] for row in self.rows]
        return self


fibonacci = Matrix([[1, 1], [1, 0]])


@move("operators make fresh objects of a global one, which are then changed")
def multiplies(number: int) -> list[list[int]]:
    result = fibonacci * fibonacci
    for _ in range(number % 5):
        result = result * fibonacci
    result *= 2
    return result.rows
